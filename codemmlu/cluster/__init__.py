"""The Ray cluster: the session that joins or starts it, tasks on the cluster, and the lock of a run directory.

`environment.configure` must run before anything imports ray: Ray reads some of its settings when it is imported.
"""
