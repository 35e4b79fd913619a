"""The page and the HTTP API: `app.create_app` makes both out of a `view.ServiceView`."""
