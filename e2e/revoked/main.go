// Command revoked tries to find a call that is allowed after the wait for its
// revocation returned: P2. It plays random schedules of faults and revocations on
// real clusters, and holds every record of an allow, and every call that reached a
// tool, against them. It also holds each wait against the longest bound that may
// count, unless the control plane that was asked was stopped, dead or cut off from
// the store (package waits); and the answers of the admin API against each other
// (package history). Agents also call in sessions, all sidecars of an agent in the
// same ones, and under limits: a session is ended as other authority is taken, only
// one sidecar may ever be allowed calls in it, and no limit may be exceeded, whoever
// is killed. A restored store has the counts and the claims of its backup, so that
// claims, and limits that sidecars share, are not judged after it; what a sidecar
// counts by itself is. Then it switches each mechanism off that P2 rests on, to
// show that it would find such a call: a negative control is red if it does.
//
//	make revoked                               200 schedules, and the controls
//	make revoked SEED=7 SCHEDULES=1000         more of them, the same each time
//	make revoked REVOKED='-for 1h'             as many as there are in an hour
//	make revoked REVOKED=-network=false        no partitions: without root
//	make revoked SEED=7 SCHEDULES=1 REVOKED='-first 41 -clusters single'
//
// The last plays one schedule again, on the kind of cluster that its line names.
// Its script is the same; when the processes do what is up to them is not.
//
// What is compared is on one machine and has one clock: the instant at which the
// wait returned, the time of each record, and the kernel's stamp of the bytes
// that reached a tool. Records are compared exactly; calls may arrive
// [oracle.Transit] later, for what is sent is sent. No process can exclude that it
// is stopped in the instant between its last look and the system call that sends;
// such a call arrives when the process goes on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/reeve-authz/reeve/e2e/revoked/script"
)

// settings are the flags.
type settings struct {
	bin, faultBin, etcd string
	schedules           int
	seed                uint64
	first               int
	lasts               time.Duration
	bound               time.Duration
	network             bool
	controls            bool
	clusters, without   string
	keep                bool
}

var errRed = errors.New("the checker is red")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var s settings
	flag.StringVar(&s.bin, "bin", ".build/bin", "folder of the built binaries")
	flag.StringVar(&s.faultBin, "fault-bin", ".build/fault", "folder of the binaries in which mechanisms can be switched off")
	flag.StringVar(&s.etcd, "etcd", ".bin/etcd", "the etcd binary")
	flag.IntVar(&s.schedules, "schedules", 200, "how many schedules to play")
	flag.Uint64Var(&s.seed, "seed", 0, "what the schedules are made from; 0 is another one each time")
	flag.IntVar(&s.first, "first", 0, "number of the first schedule, to play one again")
	flag.DurationVar(&s.lasts, "for", 0, "play schedules for so long, however many there are")
	flag.DurationVar(&s.bound, "bound", time.Second, "the freshness bound")
	flag.BoolVar(&s.network, "network", true, "cut links between network namespaces; needs root, ip and nft")
	flag.BoolVar(&s.controls, "controls", true, "show for each mechanism that the checker is red without it")
	flag.StringVar(&s.clusters, "clusters", "replicated,single", "kinds of clusters to play on, side by side")
	flag.StringVar(&s.without, "without", "", "kinds of faults to leave out, by commas: "+strings.Join(script.Kinds(), ", "))
	flag.BoolVar(&s.keep, "keep", false, "keep what the processes wrote")
	flag.Parse()
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano())
	}
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "revoked:", err)
		os.Exit(1)
	}
}

// run plays the schedules and then the controls, and writes the last line.
func run(ctx context.Context, s settings, out io.Writer) error {
	began := time.Now()
	say(out, "seed %d\n", s.seed)
	total, err := playAll(ctx, s, out)
	if err != nil {
		return err
	}
	say(out, "schedules took %v\n", time.Since(began).Round(time.Second))
	red, all := 0, 0
	if s.controls {
		if red, all, err = playControls(ctx, s, out); err != nil {
			return err
		}
	}
	say(out, "revoked: %d schedules, %d allows checked, %d late, %d of %d negative controls red\n",
		total.schedules, total.allows, total.late, red, all)
	if total.late > 0 || total.other > 0 || red < all {
		return errRed
	}
	return nil
}

// say writes progress. Where nobody reads it, the exit code tells.
func say(out io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(out, format, args...)
}
