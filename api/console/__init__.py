"""The support console: pages made on the server, for whoever has somebody on the line."""
