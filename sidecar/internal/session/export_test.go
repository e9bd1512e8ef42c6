package session

// ParseWanted is parseWanted, for tests.
var ParseWanted = parseWanted
