// The client of Docker's log driver, with acks. Arguments: host, port, messages.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/fluent/fluent-logger-golang/fluent"
)

func main() {
	port, _ := strconv.Atoi(os.Args[2])
	count, _ := strconv.Atoi(os.Args[3])
	logger, err := fluent.New(fluent.Config{
		FluentHost:         os.Args[1],
		FluentPort:         port,
		RequestAck:         true,
		SubSecondPrecision: true,
	})
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	for number := 0; number < count; number++ {
		record := map[string]string{"log": fmt.Sprintf("#weir:%012d", number), "source": "stdout", "container_name": "/c"}
		if err := logger.Post("docker.c", record); err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
		fmt.Println("acked", number)
	}
	logger.Close()
}
