"""WSGI entry: ``app`` for a WSGI server, or ``python app.py`` to serve at once on port 9487."""

from sam_droplet.web.serving import serve_here, worker_application

if __name__ == "__main__":
    serve_here()
else:
    app = worker_application()
