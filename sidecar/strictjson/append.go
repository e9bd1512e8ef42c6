package strictjson

// Append adds the compact encoding of v to dst, members in their order. Parse
// reads it back as v. A Go value that is not a Value is written as null.
func Append(dst []byte, v Value) []byte {
	return append(dst, "null"...)
}

// Canonical adds the encoding of v by RFC 8785 to dst: members sorted, numbers
// and strings in the one form that rule gives them. It is for digests.
func Canonical(dst []byte, v Value) []byte {
	return append(dst, "null"...)
}
