# shellcheck shell=bash disable=SC2034
TITLE="io_uring allowed, TCP queues and buffers"
WHY="After a restart all emitters connect at the same moment: they must fit the listen queue, or they wait a second for
their SYN to be sent again. One connection must be able to have a bandwidth times a delay under way. Links to analyzers
are quiet between batches; a congestion window that is thrown away after each pause makes every burst start slowly."
GAIN="Measured (9,000 connections at once to one shard, loopback, tuning/measure/storm.py): with a somaxconn of 128 the
last one is there after 1.3 to 1.4 s (20 to 40 % of them try again after a second), with 16,384 after 0.4 to 0.5 s. When
the distributor accepts nothing for 0.7 s before: with 4,096 it takes 1.6 to 2.6 s more, with 16,384 0.04 to 0.07 s. Not
measured, for want of a distance: full rate of a connection, bursts without slow start. net.core.rmem_max is the most that an input of datagrams gets (receive_buffer). Of TCP Weir leaves the buffers to the kernel: rmem_max and wmem_max let other
senders on this host ask for the same."
RISK="Buffers may grow to their maximum for every connection whose peer is slow: tcp_mem bounds all of them. io_uring was
perhaps forbidden on purpose: it has had security bugs."
SOURCES="listen(2), tcp(7), Documentation/networking/ip-sysctl.rst, Documentation/admin-guide/sysctl/net.rst and kernel.rst"

settings() {
    local net=/proc/sys/net
    want number /proc/sys/kernel/io_uring_disabled 0 "kernel.rst: 1 only for a group, 2 for nobody; Weir cannot start without"
    want minimum $net/core/somaxconn "$SOMAXCONN_MIN" "listen(2): caps the backlog, and Weir asks for 16,384"
    want minimum $net/ipv4/tcp_max_syn_backlog "$SYN_BACKLOG_MIN" "ip-sysctl.rst: handshakes that are not finished; as many as the backlog"
    want minimum $net/core/netdev_max_backlog "$DEVICE_BACKLOG_MIN" "net.rst: packets that wait for a CPU (RPS, loopback, veth); one for each connection of a full backlog"
    want minimum $net/core/rmem_max "$TCP_BUFFER_BYTES_MIN" "net.rst: the most that SO_RCVBUF may ask for; as tcp_rmem"
    want minimum $net/core/wmem_max "$TCP_BUFFER_BYTES_MIN" "net.rst: the most that SO_SNDBUF may ask for; as tcp_wmem"
    want last $net/ipv4/tcp_rmem "$TCP_BUFFER_BYTES_MIN" "ip-sysctl.rst: largest receive buffer; 100 Gbit/s x 1.3 ms. Smallest and default stay"
    want last $net/ipv4/tcp_wmem "$TCP_BUFFER_BYTES_MIN" "ip-sysctl.rst: largest send buffer; 100 Gbit/s x 1.3 ms. Smallest and default stay"
    want number $net/ipv4/tcp_slow_start_after_idle 0 "ip-sysctl.rst: 1 makes a connection slow again when it was idle for one retransmission time-out"
}
