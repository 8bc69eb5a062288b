"""What runs beside i2idist: object store, Postgres, tracking server, study dashboard. See README.md.

Each module has `start(folder, port=None, ...) -> Service`, which does nothing where that service runs already.
i2idist never imports this package, and this package imports of i2idist only its errors.
"""

from services.supervise import Service, stop

__all__ = ["Service", "stop"]
