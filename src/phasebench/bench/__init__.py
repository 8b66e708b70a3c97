"""The benchmarks: each module has run(workbench, config) -> BenchResult."""
