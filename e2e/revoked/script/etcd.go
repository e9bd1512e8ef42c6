package script

import (
	"context"
	"errors"
	"fmt"
)

// member hurts a member of etcd, mostly the one that leads.
func (b *breaker) member() *Fault {
	i, ok := b.free("e", len(b.Etcd.Members))
	if !ok {
		return nil
	}
	if b.rng.IntN(3) == 0 {
		return b.stopOrKill(fmt.Sprintf("e%d", i), b.Etcd.Members[i])
	}
	for n := range b.Etcd.Members {
		b.used[fmt.Sprintf("e%d", n)] = true
	}
	chosen := b.Etcd.Members[i]
	f := b.stopOrKill("etcd's leader", nil)
	kill := f.Name[:4] == "kill"
	f.Begin = func(ctx context.Context) error {
		if leader, err := b.Etcd.Leader(ctx); err == nil {
			chosen = b.Etcd.Members[leader]
		}
		if kill {
			chosen.Kill()
			return nil
		}
		return chosen.Pause()
	}
	f.End = func(context.Context) error {
		if kill {
			return chosen.Launch()
		}
		return chosen.Resume()
	}
	return f
}

// quorum leaves the store without one: two of three members stop, or die.
func (b *breaker) quorum() *Fault {
	for i := range b.Etcd.Members {
		name := fmt.Sprintf("e%d", i)
		if b.used[name] {
			return nil
		}
	}
	var both [2]*Fault
	for n := range both {
		i, _ := b.free("e", len(b.Etcd.Members))
		both[n] = b.stopOrKill(fmt.Sprintf("e%d", i), b.Etcd.Members[i])
	}
	b.free("e", len(b.Etcd.Members)) // nothing else happens to the third
	each := func(do func(f *Fault) error) error { return errors.Join(do(both[0]), do(both[1])) }
	return &Fault{
		Name: both[0].Name + " and " + both[1].Name + ": no quorum", Hurts: []string{"quorum"},
		Begin: func(ctx context.Context) error { return each(func(f *Fault) error { return f.Begin(ctx) }) },
		End:   func(ctx context.Context) error { return each(func(f *Fault) error { return f.End(ctx) }) },
	}
}
