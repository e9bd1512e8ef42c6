package plane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/reeve-authz/reeve/e2e/fleet/swarm"
	"github.com/reeve-authz/reeve/e2e/stack"
)

// An anchor writes to the control planes' own etcd, beside what is theirs.
type anchor struct {
	conn    *grpc.ClientConn
	request []byte
}

func (p *Plane) newAnchor() (*anchor, error) {
	a := &anchor{}
	// An etcdserverpb.PutRequest of 512 bytes, about what a grant has.
	a.request = protowire.AppendTag(a.request, 1, protowire.BytesType)
	a.request = protowire.AppendString(a.request, "anchor")
	a.request = protowire.AppendTag(a.request, 2, protowire.BytesType)
	a.request = protowire.AppendBytes(a.request, make([]byte, 512))

	options := []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.ForceCodecV2(swarm.Raw{}))}
	var target string
	if p.etcd != nil {
		config, err := stack.ClientTLS(p.etcd.CertFile, p.etcd.KeyFile, p.etcd.CAFile)
		if err != nil {
			return nil, err
		}
		target = "passthrough:///" + strings.TrimPrefix(p.etcd.Endpoints[0], "https://")
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	} else {
		socket, err := find(p.Replicas[0].DataDir, "client.sock")
		if err != nil {
			return nil, err
		}
		target = "unix://" + socket
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	}
	var err error
	a.conn, err = grpc.NewClient(target, options...)
	return a, err
}

// find returns the path of a file somewhere in a directory.
func find(dir, name string) (string, error) {
	found := ""
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = path
		}
		return err
	})
	if err == nil && found == "" {
		err = errors.New("there is none in " + dir)
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return found, nil
}

func (a *anchor) put(ctx context.Context) (time.Duration, error) {
	began, answer := time.Now(), []byte(nil)
	if err := a.conn.Invoke(ctx, "/etcdserverpb.KV/Put", &a.request, &answer); err != nil {
		return 0, fmt.Errorf("put to etcd: %w", err)
	}
	return time.Since(began), nil
}
