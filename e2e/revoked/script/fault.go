package script

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/reeve-authz/reeve/e2e/revoked/cluster"
	"github.com/reeve-authz/reeve/e2e/revoked/waits"
	"github.com/reeve-authz/reeve/e2e/stack"
	adminv1 "github.com/reeve-authz/reeve/gen/reeve/admin/v1"
)

// A Fault is something that goes wrong for a while.
type Fault struct {
	// Name says what goes wrong, for people.
	Name string
	// At is when, from the schedule's beginning, and Lasts for how long.
	At, Lasts time.Duration
	// Hurts are the nodes that cannot do meanwhile what they are asked for: a
	// replica also if it is cut off from the store. The store's members are all
	// meant by "e", and by "quorum" if too few of them are left.
	Hurts []string
	// Begin and End are done at the beginning and the end; End may be nil.
	Begin, End func(ctx context.Context) error
}

// Trouble returns what the fault means for those who wait.
func (f *Fault) Trouble() *waits.Trouble {
	t := &waits.Trouble{Name: f.Name, Restarts: strings.HasPrefix(f.Name, "kill r")}
	for _, node := range f.Hurts {
		var replica int
		switch _, err := fmt.Sscanf(node, "r%d", &replica); {
		case err == nil:
			t.Hurts = append(t.Hurts, replica)
		case node == "quorum":
			t.Everybody = true
		case node[0] == 'e':
			t.Elects = true
		}
	}
	return t
}

// String returns a line of a script.
func (f *Fault) String() string {
	return fmt.Sprintf("%6v for %v: %s", f.At.Round(time.Millisecond), f.Lasts.Round(time.Millisecond), f.Name)
}

// A breaker makes faults for a cluster, none of them for a node that it has
// made one for.
type breaker struct {
	*cluster.Cluster
	rng  *rand.Rand
	used map[string]bool
	// without are kinds of faults to leave out.
	without []string
}

// free returns the number of a node that is not used yet, and marks it as used.
func (b *breaker) free(kind string, n int) (int, bool) {
	for _, i := range b.rng.Perm(n) {
		name := fmt.Sprintf("%s%d", kind, i)
		if !b.used[name] {
			b.used[name] = true
			return i, true
		}
	}
	return 0, false
}

// A kind of fault.
type faultKind struct {
	name string
	// weight is how often it is chosen, beside others.
	weight int
	make   func(*breaker) *Fault
	// etcd and network are whether it needs a cluster with them.
	etcd, network bool
}

var faultKinds = []faultKind{
	{name: "sidecar", weight: 2, make: (*breaker).sidecar},
	{name: "replica", weight: 2, make: (*breaker).controlPlane},
	{name: "etcd", weight: 2, make: (*breaker).member, etcd: true},
	{name: "quorum", weight: 1, make: (*breaker).quorum, etcd: true},
	{name: "burst", weight: 1, make: (*breaker).burst},
	{name: "flicker", weight: 1, make: (*breaker).flicker},
	{name: "clocks", weight: 1, make: (*breaker).clocks},
	{name: "disk", weight: 1, make: (*breaker).disk},
	{name: "cut-sidecar", weight: 2, make: (*breaker).cutSidecar, network: true},
	{name: "cut-replica", weight: 2, make: (*breaker).cutReplica, network: true, etcd: true},
	{name: "cut-peers", weight: 1, make: (*breaker).cutPeers, network: true, etcd: true},
	{name: "lag", weight: 2, make: (*breaker).lag, network: true, etcd: true},
}

// Kinds returns the names of the kinds of faults.
func Kinds() []string {
	names := make([]string, len(faultKinds))
	for i, k := range faultKinds {
		names[i] = k.name
	}
	return names
}

// random returns a fault, or nil if the one that it chose cannot be.
func (b *breaker) random() *Fault {
	var kinds []faultKind
	for _, k := range faultKinds {
		if k.etcd && b.Etcd == nil || k.network && b.Network == nil || slices.Contains(b.without, k.name) {
			continue
		}
		for range k.weight {
			kinds = append(kinds, k)
		}
	}
	return pick(b.rng, kinds).make(b)
}

// between returns a random duration.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// stopOrKill stops a process for a while, or kills it and starts it again.
func (b *breaker) stopOrKill(what string, process *stack.Process) *Fault {
	if b.rng.IntN(3) > 0 {
		return &Fault{
			Name: "stop " + what, Hurts: []string{what},
			Begin: func(context.Context) error { return process.Pause() },
			End:   func(context.Context) error { return process.Resume() },
		}
	}
	return &Fault{
		Name: "kill " + what, Hurts: []string{what},
		Begin: func(context.Context) error { process.Kill(); return nil },
		End:   func(context.Context) error { return process.Launch() },
	}
}

func (b *breaker) sidecar() *Fault {
	i, ok := b.free("s", len(b.Sidecars))
	if !ok {
		return nil
	}
	return b.stopOrKill(fmt.Sprintf("s%d", i), b.Sidecars[i].Process)
}

func (b *breaker) controlPlane() *Fault {
	i, ok := b.free("r", len(b.Replicas))
	if !ok {
		return nil
	}
	return b.stopOrKill(fmt.Sprintf("r%d", i), b.Replicas[i].Process)
}

// burst is many changes that take nothing, which a revocation overtakes.
func (b *breaker) burst() *Fault {
	grants := make([]string, 0, 16)
	for range cap(grants) {
		g := cluster.DirectGrant(pick(b.rng, cluster.Agents), pick(b.rng, cluster.Servers), pick(b.rng, cluster.Direct))
		grants = append(grants, g.GetName())
	}
	through := b.rng.IntN(len(b.Replicas))
	return &Fault{Name: "many changes", Begin: func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		for i, name := range grants {
			g := cluster.DirectGrant("a0", cluster.Servers[0], cluster.Direct[0])
			g.Name, g.Description = name, fmt.Sprintf("changed %d", i)
			// It fails if the grant is not there, or the replica.
			_, _ = adminv1.NewGrantsClient(b.Conn(through)).UpdateGrant(ctx, &adminv1.UpdateGrantRequest{
				Grant: g, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"description"}},
			})
		}
		return nil
	}}
}

// flicker lets a sidecar run only for moments: a slow consumer.
func (b *breaker) flicker() *Fault {
	i, ok := b.free("s", len(b.Sidecars))
	if !ok {
		return nil
	}
	lasts := between(b.rng, 300*time.Millisecond, 1500*time.Millisecond)
	return &Fault{Name: fmt.Sprintf("flicker s%d for %v", i, lasts), Begin: func(ctx context.Context) error {
		return flicker(ctx, b.Sidecars[i].Process, lasts)
	}}
}

func flicker(ctx context.Context, p *stack.Process, lasts time.Duration) error {
	for end := time.Now().Add(lasts); time.Now().Before(end) && ctx.Err() == nil; {
		if err := p.Pause(); err != nil {
			return err
		}
		time.Sleep(30 * time.Millisecond) // asleep for most of the time
		if err := p.Resume(); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // its moment
	}
	return nil
}

// clocks puts a sidecar's clocks off: the wall clock alone, or both, as a sleep
// does.
func (b *breaker) clocks() *Fault {
	for i, s := range b.Sidecars {
		if s.Clocks == "" || b.used[fmt.Sprintf("s%d", i)] {
			continue
		}
		b.used[fmt.Sprintf("s%d", i)] = true
		wall := between(b.rng, -10*time.Minute, 10*time.Minute)
		sleep := time.Duration(0)
		if b.rng.IntN(2) == 0 {
			sleep = between(b.rng, 0, 20*time.Second)
			wall = s.Wall + sleep
		}
		return &Fault{Name: fmt.Sprintf("s%d: wall clock off by %v, slept %v more", i, wall, sleep), Begin: func(context.Context) error {
			return s.SetClocks(wall, s.Boot+sleep)
		}}
	}
	return nil
}

// disk fills the disk that a sidecar's spool is on.
func (b *breaker) disk() *Fault {
	for i, s := range b.Sidecars {
		if s.Disk == "" || b.used[fmt.Sprintf("s%d", i)] {
			continue
		}
		b.used[fmt.Sprintf("s%d", i)] = true
		filler := filepath.Join(s.Disk, "filler")
		return &Fault{
			Name:  fmt.Sprintf("fill the disk of s%d", i),
			Begin: func(context.Context) error { return fillDisk(filler) },
			End:   func(context.Context) error { return os.Remove(filler) },
		}
	}
	return nil
}

// fillDisk writes a file until there is no more space.
func fillDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		err = nil
	}
	return errors.Join(err, f.Close())
}
