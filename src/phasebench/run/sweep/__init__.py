"""A sweep: points in folders of their own, each run in a process of its own, resumed by what its result depends on."""
