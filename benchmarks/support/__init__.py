"""What several benchmarks share: pages, servers on loopback ports, the plan's design, CPU of processes."""
