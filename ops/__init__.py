"""How the service is run: settings, logs, migrations, wiring and the command line. Only this package knows everything."""
