// Command reevectl administers a Reeve control plane.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/command"
	"github.com/reeve-authz/reeve/controlplane/cmd/reevectl/internal/session"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, session.Process{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now,
	}, os.Args[1:])
	stop()
	os.Exit(code)
}
