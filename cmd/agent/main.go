// Agent is Lockstep's sidecar: it follows one environment's releases, applies them to the instance beside it, and acknowledges.
//
// Guarantees: data goes to standard output and everything else to standard error; an error is one line that says what, why and
// what to do next; exit codes are those of 'agent help exit-codes'. What the agent itself promises stands in internal/agent.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
