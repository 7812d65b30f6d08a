// Go's crypto/tls, frames of 100 bytes. Arguments: port, messages, CA, and certificate and key or nothing.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strconv"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	check(err)
	ca, err := os.ReadFile(os.Args[3])
	check(err)
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	config.RootCAs.AppendCertsFromPEM(ca)
	if len(os.Args) > 4 {
		pair, err := tls.LoadX509KeyPair(os.Args[4], os.Args[5])
		check(err)
		config.Certificates = []tls.Certificate{pair}
	}
	conn, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], config)
	check(err)
	// A length of 105 in front: of itself, the level, and the payload.
	frame := append([]byte{0, 0, 0, 105, 3}, make([]byte, 100)...)
	out := bufio.NewWriterSize(conn, 16384)
	for i := 0; i < count; i++ {
		_, err = out.Write(frame)
		check(err)
	}
	check(out.Flush())
	check(conn.CloseWrite())
	_, err = io.Copy(io.Discard, conn)
	check(err)
}
