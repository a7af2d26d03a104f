"""Ring 0: the chunk store on files, on a disk that loses power at every dangerous moment."""
