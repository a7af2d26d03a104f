"""An example for each command, shown below its `--help`."""

from __future__ import annotations

import typer

EXAMPLES = {
    "ls": "fs3 ls -l fs3://10.9.0.1/data",
    "cat": "fs3 cat fs3://10.9.0.1/data/hostname",
    "cp": "fs3 cp -r /srv/photos fs3://10.9.0.1/photos",
    "mv": "fs3 mv fs3://10.9.0.1/data/a fs3://10.9.0.1/data/b",
    "rm": "fs3 rm -r fs3://10.9.0.1/runs/7",
    "mkdir": "fs3 mkdir -p fs3://10.9.0.1/runs/8",
    "stat": "fs3 stat fs3://10.9.0.1/data/hostname",
    "du": "fs3 du -s fs3://10.9.0.1/runs",
    "ln": "fs3 ln -s ../runs/8 fs3://10.9.0.1/data/newest",
    "chmod": "fs3 chmod -R 750 fs3://10.9.0.1/runs",
    "chown": "fs3 chown -R alice:research fs3://10.9.0.1/runs",
    "layout": "fs3 layout --chunk-size 1MiB --stripe 16 fs3://10.9.0.1/small",
    "up": "fs3 up --data-dir /tmp/fs3-data --detach",
    "down": "fs3 down --data-dir /tmp/fs3-data",
    "restart": "fs3 restart --data-dir /tmp/fs3-data storage-1 storage-2",
    "status": "fs3 status --watch fs3://10.9.0.1",
    "dashboard": "fs3 dashboard fs3://10.9.0.1",
    "top": "fs3 top --every 1s fs3://10.9.0.1",
    "slow": "fs3 slow fs3://10.9.0.1",
    "trace": "fs3 trace fs3://10.9.0.1/data/hostname",
    "events": "fs3 events -n 20 fs3://10.9.0.1",
    "mount": "fs3 mount fs3://10.9.0.1 /mnt/fs3",
    "umount": "fs3 umount /mnt/fs3",
    "certs init": "fs3 certs init /root/fs3-ca",
    "certs issue": "fs3 certs issue /root/fs3-ca h1 --address h1 --address 10.9.0.1 --out h1",
    "certs renew": "fs3 certs renew --config /etc/fs3/node.toml",
    "certs use": "fs3 certs use /root/fs3-ca --config /etc/fs3/node.toml",
    "certs show": "fs3 certs show --json /etc/fs3/h1.crt",
    "serve": "fs3 serve --config /etc/fs3/node.toml",
    "doctor": "fs3 doctor --config /etc/fs3/node.toml",
    "completion": "fs3 completion bash > /etc/bash_completion.d/fs3",
    "demo failover": "fs3 demo failover --role tail",
    "admin kv export": "fs3 admin kv export /var/lib/fs3 fs3-2026-11-29.export",
    "admin kv import": "fs3 admin kv import fs3-2026-11-29.export etcd://10.9.0.1:2379,10.9.0.2:2379/restored",
    "admin kv copy": "fs3 admin kv copy /var/lib/fs3 etcd://10.9.0.1:2379/fs3",
    "admin kv use": "fs3 admin kv use /var/lib/fs3 etcd://10.9.0.1:2379/fs3",
    "admin nodes": "fs3 admin nodes fs3://10.9.0.1",
    "admin targets": "fs3 admin targets --json fs3://10.9.0.1",
    "admin tables": "fs3 admin tables fs3://10.9.0.1",
    "admin fsck": "fs3 admin fsck --repair fs3://10.9.0.1",
    "admin verify-replicas": "fs3 admin verify-replicas fs3://10.9.0.1",
    "admin chains": "fs3 admin chains fs3://10.9.0.1",
    "admin chunk": "fs3 admin chunk 2/0 fs3://10.9.0.1",
    "admin resync": "fs3 admin resync 4 fs3://10.9.0.1",
    "admin accept-loss": "fs3 admin accept-loss 4 fs3://10.9.0.1",
    "admin rebalance": "fs3 admin rebalance --dry-run fs3://10.9.0.1",
    "admin drain": "fs3 admin drain storage-2 --disk /data/3 --wait fs3://10.9.0.1",
    "admin undrain": "fs3 admin undrain storage-2 fs3://10.9.0.1",
    "admin remove": "fs3 admin remove storage-2 fs3://10.9.0.1",
    "admin replace": "fs3 admin replace storage-2 storage-6 fs3://10.9.0.1",
    "admin forget": "fs3 admin forget storage-2 fs3://10.9.0.1",
    "admin moves": "fs3 admin moves --pause fs3://10.9.0.1",
    "admin scrub": "fs3 admin scrub --start fs3://10.9.0.1",
    "admin backup-meta": "fs3 admin backup-meta /tmp/fs3-data /backup/monday",
    "admin restore-meta": "fs3 admin restore-meta /backup/monday /tmp/fs3-data",
    "kv ls": "fs3 kv ls --cluster fs3://10.9.0.1",
    "kv create": "fs3 kv create model@rev --page 1124352 --budget 100GB --cluster fs3://10.9.0.1",
    "kv show": "fs3 kv show model@rev --cluster fs3://10.9.0.1",
    "kv set": "fs3 kv set model@rev --budget 200GB --cluster fs3://10.9.0.1",
    "kv clear": "fs3 kv clear model@rev --cluster fs3://10.9.0.1",
    "kv rm": "fs3 kv rm model@rev --cluster fs3://10.9.0.1",
    "kv stat": "fs3 kv stat model@rev --cluster fs3://10.9.0.1",
    "kv events": "fs3 kv events model@rev --cluster fs3://10.9.0.1",
    "kv top": "fs3 kv top --owners --cluster fs3://10.9.0.1",
    "cluster init": "fs3 cluster init --config /etc/fs3/node.toml --storage-nodes 5",
    "cluster join": "fs3 cluster join --config /etc/fs3/node.toml --token fs3-…",
    "cluster machines": "fs3 cluster machines fs3://10.9.0.1",
    "cluster remove": "fs3 cluster remove h5",
    "cluster token create": "fs3 cluster token create --uses 2 --lifetime 1h",
    "cluster token revoke": "fs3 cluster token revoke 1f2e3d4c",
    "cluster token list": "fs3 cluster token list fs3://10.9.0.1",
    "config get": "fs3 config get storage.scrub_interval_s",
    "config set": "fs3 config set storage.scrub_bytes_per_second=32MB meta.stripe=16",
    "config diff": "fs3 config diff 3",
    "config history": "fs3 config history --json",
    "user add": "fs3 user add ann --uid 1000 --gid 1000 --tenant lab --cluster fs3://10.9.0.1",
    "user set": "fs3 user set ann --disable --cluster fs3://10.9.0.1",
    "user token": "fs3 user token ann --name laptop --lifetime 90d --file ann.token --cluster fs3://10.9.0.1",
    "user list": "fs3 user list --cluster fs3://10.9.0.1",
    "user rm": "fs3 user rm ann --cluster fs3://10.9.0.1",
    "security on": "fs3 security on --token-file admin.token /tmp/fs3-data",
    "security off": "fs3 security off --yes /tmp/fs3-data",
    "security status": "fs3 security status fs3://10.9.0.1",
    "security rotate": "fs3 security rotate --at-once fs3://10.9.0.1",
    "security revoke": "fs3 security revoke ann fs3://10.9.0.1",
    "security admit": "fs3 security admit storage-4 --key-file /data/fs3/storage-4/node.key fs3://10.9.0.1",
}
"""Command -> a whole line of it."""


def add_examples(app: typer.Typer, above: str = "") -> None:
    """Put the example of each command of an application below its help."""
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        if example := EXAMPLES.get(f"{above}{name}"):
            command.epilog = f"Example: {example}"
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_examples(group.typer_instance, f"{above}{group.typer_instance.info.name} ")
