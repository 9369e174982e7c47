package token

// Management scopes let a token manage others. They are built in: no declaration
// can make one, and none is held by an access level, so that a key that may read
// and write the API behind the gate is not by that a key to the gate itself.
var (
	ManageTokensRead  = Scope{Name: "sallyport:tokens:read", Nature: Read}
	ManageTokensWrite = Scope{Name: "sallyport:tokens:write", Nature: Write}
	ManageUsersRead   = Scope{Name: "sallyport:users:read", Nature: Read}
	ManageAuditRead   = Scope{Name: "sallyport:audit:read", Nature: Read}
)

// ManagementScopes lists them.
func ManagementScopes() []Scope {
	return []Scope{ManageTokensRead, ManageTokensWrite, ManageUsersRead, ManageAuditRead}
}

func managementScope(name string) (Scope, bool) {
	switch name {
	case ManageTokensRead.Name:
		return ManageTokensRead, true
	case ManageTokensWrite.Name:
		return ManageTokensWrite, true
	case ManageUsersRead.Name:
		return ManageUsersRead, true
	case ManageAuditRead.Name:
		return ManageAuditRead, true
	default:
		return Scope{}, false
	}
}

// Manages says whether the grant lists a management scope.
func (g *Grant) Manages(s Scope) bool {
	_, management := managementScope(s.Name)
	return management && g.Access == Custom && g.Holds(s)
}

// Management lists the management scopes of the grant.
func (g *Grant) Management() (names []string) {
	for _, s := range ManagementScopes() {
		if g.Manages(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// Covers says whether whoever holds g may give another grant away: it lets nothing
// happen that g does not. Management scopes are left aside; who may give those is
// another question. An access level is covered by a level only, since what it lets
// happen grows with every scope that is declared.
func (g *Grant) Covers(other *Grant, known func(name string) (Scope, bool)) bool {
	switch other.Access {
	case ReadWrite:
		return g.Access == ReadWrite
	case ReadOnly:
		return g.Access == ReadWrite || g.Access == ReadOnly
	case Custom:
		for _, name := range other.Scopes {
			if _, management := managementScope(name); management {
				continue
			}
			s, ok := lookUpScope(name, known)
			if !ok {
				// No longer declared: it counts as one that writes, the stricter reading.
				s = Scope{Name: name, Nature: Write}
			}
			if !g.Holds(s) {
				return false
			}
		}
		return true
	default:
		return false
	}
}
