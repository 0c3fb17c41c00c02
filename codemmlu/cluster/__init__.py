"""The Ray session: joining or starting a cluster, tasks on it, and the lock of a run directory.

`environment.configure` must run before anything imports ray: Ray reads some of its settings when it is imported.
"""
