"""How the service is run: settings, wiring, migrations, command line. Only this package knows everything."""
