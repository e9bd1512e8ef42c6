package message

import (
	"github.com/reeve-authz/reeve/sidecar/strictjson"
)

// Capabilities are what the answer to initialize or server/discover says that a
// server can do; nil if it says nothing that can be read in one way only.
func (a *Answer) Capabilities() *strictjson.Object {
	value, err := findOnly(a.Result, "capabilities")
	if err != nil || value == nil {
		return nil
	}
	v, err := strictjson.Parse(value, strictjson.Limits{})
	if err != nil {
		return nil
	}
	o, _ := v.(*strictjson.Object)
	return o
}

// Set returns o with a member of this value, in the place of one of this name.
func Set(o *strictjson.Object, key string, value strictjson.Value) *strictjson.Object {
	if _, ok := o.Get(key); ok {
		return replaced(o, key, value)
	}
	members := make([]strictjson.Member, 0, o.Len()+1)
	for k, v := range o.All() {
		members = append(members, strictjson.Member{Key: k, Value: v})
	}
	return strictjson.NewObject(append(members, strictjson.Member{Key: key, Value: value})...)
}
