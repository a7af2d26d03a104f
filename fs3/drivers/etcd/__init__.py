"""The KV port on etcd, for any number of processes on any number of machines: see `fs3.drivers.etcd.kv`.

It speaks gRPC, so nothing here is imported before a store on etcd is opened (`fs3.drivers.etcd.opening`).
"""
