package script

import (
	"context"
	"fmt"
	"strings"

	"github.com/reeve-authz/reeve/e2e/stack"
)

// A link is a way from one node to another.
type link struct{ from, to string }

// cut drops what is sent over links. Healing is for all links at once, when the
// schedule is over, and for these at the fault's end.
func (b *breaker) cut(links ...link) *Fault {
	names := make([]string, len(links))
	var hurts []string
	for i, l := range links {
		names[i] = l.from + "→" + l.to
		switch ends := l.from[:1] + l.to[:1]; ends {
		case "re", "ee":
			hurts = append(hurts, l.from)
		case "er":
			hurts = append(hurts, l.to)
		}
	}
	return &Fault{
		Name: "cut " + strings.Join(names, " "), Hurts: hurts,
		Begin: func(ctx context.Context) error {
			for _, l := range links {
				if err := b.Network.Cut(ctx, b.node(l.from), b.node(l.to)); err != nil {
					return err
				}
			}
			return nil
		},
		End: func(ctx context.Context) error {
			for _, l := range links {
				if err := b.Network.Mend(ctx, b.node(l.from), b.node(l.to)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (b *breaker) node(name string) stack.Host {
	var n int
	if _, err := fmt.Sscan(name[1:], &n); err != nil {
		return stack.Host{}
	}
	return b.Host(name[:1], n)
}

// ways are both ways between a and b, or one of them.
func (b *breaker) ways(x, y string) []link {
	there, back := link{x, y}, link{y, x}
	switch b.rng.IntN(4) {
	case 0:
		return []link{there}
	case 1:
		return []link{back}
	default:
		return []link{there, back}
	}
}

// cutSidecar cuts a sidecar off from one replica, or from all.
func (b *breaker) cutSidecar() *Fault {
	s := fmt.Sprintf("s%d", b.rng.IntN(len(b.Sidecars)))
	if b.rng.IntN(2) == 0 {
		return b.cut(b.ways(s, fmt.Sprintf("r%d", b.rng.IntN(len(b.Replicas))))...)
	}
	var links []link
	for i := range b.Replicas {
		links = append(links, b.ways(s, fmt.Sprintf("r%d", i))...)
	}
	return b.cut(links...)
}

// cutReplica cuts a replica off from one member of etcd, or from all.
func (b *breaker) cutReplica() *Fault {
	r := fmt.Sprintf("r%d", b.rng.IntN(len(b.Replicas)))
	if b.rng.IntN(3) == 0 {
		return b.cut(b.ways(r, fmt.Sprintf("e%d", b.rng.IntN(len(b.Etcd.Members))))...)
	}
	return b.cut(b.fromEtcd(r)...)
}

func (b *breaker) fromEtcd(r string) []link {
	var links []link
	for i := range b.Etcd.Members {
		links = append(links, b.ways(r, fmt.Sprintf("e%d", i))...)
	}
	return links
}

// cutPeers cuts replicas off from each other, or members of etcd.
func (b *breaker) cutPeers() *Fault {
	kind, n := "r", len(b.Replicas)
	if b.rng.IntN(2) == 0 {
		kind, n = "e", len(b.Etcd.Members)
	}
	one := b.rng.IntN(n)
	other := (one + 1 + b.rng.IntN(n-1)) % n
	return b.cut(b.ways(fmt.Sprintf("%s%d", kind, one), fmt.Sprintf("%s%d", kind, other))...)
}

// lag leaves sidecars nothing but a replica that does not hear from the store.
func (b *breaker) lag() *Fault {
	lagging := b.rng.IntN(len(b.Replicas))
	links := b.fromEtcd(fmt.Sprintf("r%d", lagging))
	for _, s := range b.rng.Perm(len(b.Sidecars))[:1+b.rng.IntN(3)] {
		for r := range b.Replicas {
			if r != lagging {
				links = append(links, b.ways(fmt.Sprintf("s%d", s), fmt.Sprintf("r%d", r))...)
			}
		}
	}
	return b.cut(links...)
}
