package swarm

import (
	"fmt"
	"strconv"
	"strings"
	"unique"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	grantv1 "github.com/reeve-authz/reeve/gen/reeve/grant/v1"
)

const (
	streamMethod = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
	renewMethod  = grantv1.Freshness_Renew_FullMethodName
	typePrefix   = "type.googleapis.com/reeve.grant.v1."
)

// Raw is a codec of messages that are bytes already: a *[]byte.
type Raw struct{}

var _ encoding.CodecV2 = Raw{}

// Name implements [encoding.CodecV2]: on the wire it is protobuf.
func (Raw) Name() string { return "proto" }

// Marshal implements [encoding.CodecV2].
func (Raw) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("encode %T: it is no *[]byte", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*b)}, nil
}

// Unmarshal implements [encoding.CodecV2].
func (Raw) Unmarshal(data mem.BufferSlice, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("decode %T: it is no *[]byte", v)
	}
	*b = data.Materialize()
	return nil
}

// An entry is what a sidecar holds under a name.
type entry struct {
	typeURL unique.Handle[string]
	name    unique.Handle[string]
}

// A response is what a simulated sidecar reads of a DeltaDiscoveryResponse.
type response struct {
	typeURL, nonce string
	revision       int64
	chunk, chunks  int
	urgent         bool
}

// read decodes a response and calls put for each resource in it and remove for
// each that is gone. The strings that it gives are part of b.
func read(b []byte, put func(typeURL, name, version string), remove func(typeURL, name string)) (response, error) {
	var r response
	for pass := range 2 { // the type comes after the resources
		for rest := b; len(rest) > 0; {
			number, kind, n := protowire.ConsumeTag(rest)
			if n < 0 || kind != protowire.BytesType {
				return r, fmt.Errorf("read response: field %d of kind %d", number, kind)
			}
			value, m := protowire.ConsumeBytes(rest[n:])
			if m < 0 {
				return r, fmt.Errorf("read response: %w", protowire.ParseError(m))
			}
			rest = rest[n+m:]
			switch {
			case number == 4 && pass == 0:
				r.typeURL = string(value)
			case number == 5 && pass == 0:
				r.nonce = string(value)
			case number == 2 && pass == 1:
				name, version, err := readResource(value)
				if err != nil {
					return r, err
				}
				put(r.typeURL, name, version)
			case number == 6 && pass == 1:
				remove(r.typeURL, string(value))
			}
		}
	}
	return r, r.parseNonce()
}

func readResource(b []byte) (name, version string, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 || kind != protowire.BytesType {
			return "", "", fmt.Errorf("read resource: field %d of kind %d", number, kind)
		}
		value, m := protowire.ConsumeBytes(b[n:])
		if m < 0 {
			return "", "", fmt.Errorf("read resource: %w", protowire.ParseError(m))
		}
		b = b[n+m:]
		switch int32(number) {
		case 1:
			version = string(value)
		case 3:
			name = string(value)
		}
	}
	return name, version, nil
}

// parseNonce reads "{lane}{revision}.{chunk}.{chunks}".
func (r *response) parseNonce() error {
	lane, rest := r.nonce[:min(1, len(r.nonce))], r.nonce[min(1, len(r.nonce)):]
	parts := strings.Split(rest, ".")
	if lane != "n" && lane != "u" || len(parts) != 3 {
		return fmt.Errorf("read nonce %q: it is of another form", r.nonce)
	}
	r.urgent = lane == "u"
	var err error
	if r.revision, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
		return fmt.Errorf("read nonce %q: %w", r.nonce, err)
	}
	if r.chunk, err = strconv.Atoi(parts[1]); err != nil {
		return fmt.Errorf("read nonce %q: %w", r.nonce, err)
	}
	if r.chunks, err = strconv.Atoi(parts[2]); err != nil {
		return fmt.Errorf("read nonce %q: %w", r.nonce, err)
	}
	return nil
}

// ack encodes the DeltaDiscoveryRequest that accepts a response.
func ack(typeURL, nonce string) []byte {
	b := make([]byte, 0, len(typeURL)+len(nonce)+8)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendString(b, typeURL)
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	return protowire.AppendString(b, nonce)
}

// renewal encodes a RenewRequest.
func renewal(stream, id string) []byte {
	var b []byte
	b = protowire.AppendTag(b, 1, protowire.BytesType)
	b = protowire.AppendString(b, stream)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendString(b, id)
}
