// Command support-server is a help desk with an MCP endpoint, over streamable
// HTTP at /mcp or, with -stdio, over its standard input and output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/reeve-authz/reeve/examples/support/desk"
	"github.com/reeve-authz/reeve/examples/support/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "support-server:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("support-server", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:7090", "`address` to serve MCP at, path /mcp")
	data := flags.String("data", "support-data", "`folder` of the desk's file and journal")
	stdio := flags.Bool("stdio", false, "serve over standard input and output, and listen to no address")
	stateless := flags.Bool("stateless", false, "keep no MCP sessions, as MCP has it from 2026-07-28 on")
	if err := flags.Parse(args); err != nil {
		return err
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := os.MkdirAll(*data, 0o700); err != nil {
		return err
	}
	d, err := desk.Open(filepath.Join(*data, "desk.json"), desk.Seed())
	if err != nil {
		return err
	}
	j, err := desk.OpenJournal(filepath.Join(*data, "journal.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()

	s := server.New(d, j, log)
	if *stdio {
		if err := s.Run(ctx, &mcp.StdioTransport{}); ctx.Err() == nil {
			return err
		}
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", server.Handler(s, *stateless, log))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "support-server: serving MCP at http://%s/mcp\n", listener.Addr())
	return serve(ctx, &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, listener)
}

// serve serves until the context ends, then gives open calls two seconds.
func serve(ctx context.Context, s *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		return s.Close()
	}
	return nil
}
