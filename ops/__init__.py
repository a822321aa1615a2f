"""Configuration, wiring, command line, embedded services, migrations, metrics, logs, simulators."""
