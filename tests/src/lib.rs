//! The harness of the scenario suites: World, personas, a temporary laptop, the lab.
