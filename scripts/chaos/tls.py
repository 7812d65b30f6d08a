"""Certificates of a series, and the flags that make every connection of its programs one of TLS."""

import os
import subprocess

NAME = "chaos.test"
# Analyzers show certificates with their ids.
CLIENTS = ("a1", "a2", "a3", "emitter")


class Tls:
    """Made once by `weir cert`; all runs share it."""

    def __init__(self, weir, directory):
        self.directory = os.path.join(directory, "tls")
        made = [weir, "cert", "--dir", self.directory, "--name", NAME]
        for client in CLIENTS:
            made += ["--client", client]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL)

    def path(self, name):
        """One of its files."""
        return os.path.join(self.directory, name)

    def of_distributor(self, has_http):
        """TLS at all ports, and only for who shows a certificate. Helpers that break connections by hand speak none, so
        ports of emitters let them in."""
        flags = {
            "--emitters-tls": "optional",
            "--analyzers-tls": "required",
            "--tls-cert": self.path(f"{NAME}.pem"),
            "--tls-key": self.path(f"{NAME}.key"),
            "--tls-client-ca": self.path("ca.pem"),
        }
        return flags | ({"--http-tls": "optional"} if has_http else {})

    def of_client(self, name):
        """For who connects to the distributor."""
        pair = ["--tls-cert", self.path(f"{name}.pem"), "--tls-key", self.path(f"{name}.key")]
        return ["--tls", "--tls-ca", self.path("ca.pem"), "--tls-name", NAME, *pair]

    def of_server(self):
        """For an analyzer that the distributor connects to."""
        return ["--tls-cert", self.path(f"{NAME}.pem"), "--tls-key", self.path(f"{NAME}.key")]

    def analyzer_url(self, place):
        """Where such an analyzer is."""
        return f"https://{place}?tls_ca={self.path('ca.pem')}&tls_name={NAME}"
