"""A DNS server that says of every name that it is none. Argument: the address to listen at."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
while True:
    question, client = server.recvfrom(512)
    # The id and the counts of the question; an answer, recursion available, NXDOMAIN.
    server.sendto(question[:2] + b"\x81\x83" + question[4:], client)
