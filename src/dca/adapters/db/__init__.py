"""The database: MySQL, MariaDB or SQLite behind `dca.ports.Store`."""
