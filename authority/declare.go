package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// Declarations is what a configuration owns.
type Declarations struct {
	Roles    []token.Role
	Policies []token.Policy
	Scopes   []token.Scope
	Webhooks []DeclaredWebhook
}

// BuiltInRoles are the roles that every store has. A configuration can declare
// them anew; when it no longer does, they are as here again.
func BuiltInRoles() []token.Role {
	return []token.Role{
		{Name: "owner", Ceiling: token.Grant{Access: token.ReadWrite}},
		{Name: "admin", Ceiling: token.Grant{Access: token.ReadWrite}},
		{Name: "member", Ceiling: token.Grant{Access: token.ReadWrite}},
		{Name: "auditor", Ceiling: token.Grant{Access: token.ReadOnly}},
	}
}

// Declare writes what a configuration declares, each record under a hash of its
// declaration, in one audited transaction; it writes nothing when the store
// already holds the same.
//
// A record of the same name that people made is taken over. What is no longer
// declared is released: a built-in role and the policy default become what they
// were; a scope goes, unless a token or a role still lists it; a webhook is disabled
// and keeps its signing secret; everything else stays as it is and belongs to the store from then on, because accounts and
// users depend on it and a missing line must not change what they may do.
func (a *Authority) Declare(ctx context.Context, by By, d Declarations) error {
	if err := d.check(); err != nil {
		return err
	}
	// Most starts change nothing, and should not stand in line with writers, nor
	// need a store that can be written.
	var same bool
	err := a.see(ctx, by, VerbDeclare, anything, func(s *step) error {
		plan, err := s.planDeclarations(&d)
		same = len(plan) == 0
		return err
	})
	if err != nil || same {
		return err
	}
	return a.change(ctx, by, VerbDeclare, anything, func(s *step) error {
		plan, err := s.planDeclarations(&d)
		if err != nil {
			return err
		}
		for _, p := range plan {
			before, after, err := differing(p.before, p.after)
			if err != nil {
				return err
			}
			if p.after == nil {
				before = p.before
			}
			if err := p.write(s.tx); err != nil {
				return err
			}
			if err := s.auditAs(p.verb, target{id: p.name}, before, after); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeclaredOtherwise names the records for which the store holds something else than
// was declared: another gateway has another configuration, and was started later.
// What Declare wrote last holds, for all of them.
func (a *Authority) DeclaredOtherwise(ctx context.Context, by By, d Declarations) (names []string, err error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	err = a.see(ctx, by, VerbDeclare, anything, func(s *step) error {
		plan, err := s.planDeclarations(&d)
		names = make([]string, len(plan))
		for i, p := range plan {
			kind, _, _ := strings.Cut(string(p.verb), ".")
			names[i] = kind + " " + p.name
		}
		return err
	})
	return names, err
}

// planned is one record that Declare changes.
type planned struct {
	verb          Verb
	name          string
	before, after fields // after is nil when the record goes
	write         func(*tokenstore.Tx) error
}

// check judges all that needs no store.
func (d *Declarations) check() error {
	seen := map[string]bool{}
	twice := func(kind, name string) error {
		if seen[kind+name] {
			return invalid(kind+" "+name, "is declared twice: remove one of the declarations")
		}
		seen[kind+name] = true
		return nil
	}
	for i, scope := range d.Scopes {
		if err := token.CheckScopeName(scope.Name); err != nil {
			return invalid(fmt.Sprintf("scopes[%d]", i), err.Error())
		}
		if _, ok := token.BuiltInScope(scope.Name); ok {
			return invalid("scope "+scope.Name, "is built in and can not be declared: it stands for operations without a scope of their own")
		}
		if scope.Nature != token.Read && scope.Nature != token.Write {
			return invalid("scope "+scope.Name, "must be of nature read or write")
		}
		if err := twice("scope", scope.Name); err != nil {
			return err
		}
	}
	for i, role := range d.Roles {
		if err := checkRoleName(role.Name); err != nil {
			return invalid(fmt.Sprintf("roles[%d]", i), err.Error())
		}
		if err := twice("role", role.Name); err != nil {
			return err
		}
	}
	for i := range d.Policies {
		policy := &d.Policies[i]
		if token.CheckPolicyName(policy.Name) != nil {
			return invalid(fmt.Sprintf("policies[%d]", i), nameRule)
		}
		if err := policy.Validate(); err != nil {
			return within("policy "+policy.Name, err)
		}
		if err := twice("policy", policy.Name); err != nil {
			return err
		}
	}
	return checkDeclaredWebhooks(d.Webhooks)
}

const nameRule = "the name must be 1 to 64 of a-z, 0-9, _ and -, a letter first"

// checkRoleName accepts what is accepted for policies.
func checkRoleName(name string) error {
	if token.CheckPolicyName(name) != nil {
		return fmt.Errorf("%s", nameRule)
	}
	return nil
}

// within says in which record a field is wrong.
func within(record string, err error) error {
	wrapped := asInvalid(err)
	if e, ok := wrapped.(*Error); ok { //nolint:errorlint // made by asInvalid just now
		return invalid(record+": "+e.Field, e.Detail)
	}
	return wrapped
}

// planDeclarations compares the declarations with the store.
func (s *step) planDeclarations(d *Declarations) ([]planned, error) {
	var plan []planned
	for _, compare := range []func(*Declarations) ([]planned, error){s.planScopes, s.planRoles, s.planPolicies, s.planWebhooks} {
		part, err := compare(d)
		if err != nil {
			return nil, err
		}
		plan = append(plan, part...)
	}
	return plan, nil
}

func (s *step) planScopes(d *Declarations) ([]planned, error) {
	stored, err := s.tx.Scopes()
	if err != nil {
		return nil, err
	}
	was := map[string]tokenstore.DeclaredScope{}
	for _, scope := range stored {
		was[scope.Name] = scope
	}
	var plan []planned
	for _, scope := range d.Scopes {
		wanted := tokenstore.DeclaredScope{Scope: scope}
		if wanted.ManagedBy, err = hashOf(scopeFields(&wanted)); err != nil {
			return nil, err
		}
		old, ok := was[scope.Name]
		delete(was, scope.Name)
		if ok && old == wanted {
			continue
		}
		p := planned{verb: VerbDeclareScope, name: scope.Name, after: scopeFields(&wanted)}
		if ok {
			p.before = scopeFields(&old)
		}
		p.write = func(tx *tokenstore.Tx) error { return tx.PutScope(wanted) }
		plan = append(plan, p)
	}
	for _, old := range stored {
		if _, left := was[old.Name]; !left || old.ManagedBy == "" {
			continue
		}
		used, err := s.scopeInUse(old.Name, d)
		if err != nil {
			return nil, err
		}
		p := planned{verb: VerbRemoveScope, name: old.Name, before: scopeFields(&old)}
		p.write = func(tx *tokenstore.Tx) error { return tx.DeleteScope(old.Name) }
		if used {
			released := old
			released.ManagedBy = ""
			p.verb, p.after = VerbReleaseScope, scopeFields(&released)
			p.write = func(tx *tokenstore.Tx) error { return tx.PutScope(released) }
		}
		plan = append(plan, p)
	}
	return plan, nil
}

// scopeInUse says whether a token that has not ended, or a role that stays, lists
// a scope.
func (s *step) scopeInUse(name string, d *Declarations) (bool, error) {
	q := tokenstore.TokenQuery{
		Scope: name, States: []token.State{token.Active, token.Disabled, token.Expired}, Now: s.now, Limit: 1,
	}
	for {
		page, err := s.tx.Tokens(q)
		if err != nil || len(page.Tokens) > 0 {
			return true, err
		}
		if page.Next == "" {
			break
		}
		q.Cursor = page.Next
	}
	roles, err := s.tx.Roles()
	if err != nil {
		return true, err
	}
	for _, role := range roles {
		// A role that is declared anew is judged by its new ceiling, which can not
		// list a scope that is no longer declared.
		declared := slices.ContainsFunc(d.Roles, func(r token.Role) bool { return r.Name == role.Name })
		if !declared && slices.Contains(role.Ceiling.Scopes, name) {
			return true, nil
		}
	}
	return false, nil
}

func (s *step) planRoles(d *Declarations) ([]planned, error) {
	known, err := s.scopesAfter(d)
	if err != nil {
		return nil, err
	}
	stored, err := s.tx.Roles()
	if err != nil {
		return nil, err
	}
	was := map[string]token.Role{}
	for _, role := range stored {
		was[role.Name] = role
	}
	wanted := make([]token.Role, 0, len(d.Roles))
	for _, role := range d.Roles {
		if role.Ceiling, err = token.NewGrant(role.Ceiling.Access, role.Ceiling.Scopes, known); err != nil {
			return nil, within("role "+role.Name, err)
		}
		role.ManagedBy = ""
		if role.ManagedBy, err = hashOf(roleFields(&role)); err != nil {
			return nil, err
		}
		wanted = append(wanted, role)
	}
	return planRecords(wanted, BuiltInRoles(), was, recordKind[token.Role]{
		declare: VerbDeclareRole, release: VerbReleaseRole,
		name:    func(r *token.Role) string { return r.Name },
		fields:  func(r *token.Role) (fields, error) { return roleFields(r), nil },
		managed: func(r *token.Role) *string { return &r.ManagedBy },
		put:     func(tx *tokenstore.Tx, r *token.Role) error { return tx.PutRole(r) },
	})
}

// scopesAfter finds the scopes that are known once the declarations hold.
func (s *step) scopesAfter(d *Declarations) (scopeFinder, error) {
	stored, err := s.tx.Scopes()
	if err != nil {
		return nil, err
	}
	byName := map[string]token.Scope{}
	for _, scope := range stored {
		if scope.ManagedBy == "" {
			byName[scope.Name] = scope.Scope
		}
	}
	for _, scope := range d.Scopes {
		byName[scope.Name] = scope
	}
	return func(name string) (token.Scope, bool) {
		scope, ok := byName[name]
		return scope, ok
	}, nil
}

func (s *step) planPolicies(d *Declarations) ([]planned, error) {
	stored, err := s.tx.Policies()
	if err != nil {
		return nil, err
	}
	was := map[string]token.Policy{}
	for _, policy := range stored {
		was[policy.Name] = policy
	}
	wanted := make([]token.Policy, 0, len(d.Policies))
	if err := s.checkRolesNamed(d); err != nil {
		return nil, err
	}
	for _, policy := range d.Policies {
		policy.ManagedBy = ""
		f, err := policyFields(&policy)
		if err != nil {
			return nil, err
		}
		if policy.ManagedBy, err = hashOf(f); err != nil {
			return nil, err
		}
		wanted = append(wanted, policy)
	}
	return planRecords(wanted, []token.Policy{token.DefaultPolicy()}, was, recordKind[token.Policy]{
		declare: VerbDeclarePolicy, release: VerbReleasePolicy,
		name:    func(p *token.Policy) string { return p.Name },
		fields:  policyFields,
		managed: func(p *token.Policy) *string { return &p.ManagedBy },
		put:     func(tx *tokenstore.Tx, p *token.Policy) error { return tx.PutPolicy(p) },
	})
}

// checkRolesNamed refuses a policy that speaks of a role that there is not: a
// role that was misspelt would shut out those who have the real one.
func (s *step) checkRolesNamed(d *Declarations) error {
	stored, err := s.tx.Roles()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, role := range slices.Concat(stored, BuiltInRoles(), d.Roles) {
		known[role.Name] = true
	}
	for i := range d.Policies {
		for _, role := range d.Policies[i].RolesNamed() {
			if !known[role] {
				return invalid("policy "+d.Policies[i].Name, fmt.Sprintf("allow or view names the role %q, which is not declared: declare it, or correct its name", role))
			}
		}
	}
	return nil
}

// recordKind is what planRecords has to know of roles and of policies.
type recordKind[T any] struct {
	declare, release Verb
	name             func(*T) string
	fields           func(*T) (fields, error)
	managed          func(*T) *string
	put              func(*tokenstore.Tx, *T) error
}

// planRecords compares what is wanted with what was, by name. builtIn are the
// records that always exist, as they are when nobody says otherwise.
func planRecords[T any](wanted, builtIn []T, was map[string]T, k recordKind[T]) ([]planned, error) {
	isWanted := map[string]bool{}
	for i := range wanted {
		isWanted[k.name(&wanted[i])] = true
	}
	for i := range builtIn {
		name := k.name(&builtIn[i])
		old, exists := was[name]
		if !isWanted[name] && (!exists || *k.managed(&old) != "") {
			wanted = append(wanted, builtIn[i])
			isWanted[name] = true
		}
	}
	names := make([]string, 0, len(was))
	for name := range was {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		old := was[name]
		if !isWanted[name] && *k.managed(&old) != "" {
			*k.managed(&old) = ""
			wanted = append(wanted, old)
		}
	}

	var plan []planned
	for _, record := range wanted {
		p := planned{verb: k.declare, name: k.name(&record)}
		var err error
		if p.after, err = k.fields(&record); err != nil {
			return nil, err
		}
		if old, ok := was[p.name]; ok {
			if p.before, err = k.fields(&old); err != nil {
				return nil, err
			}
			if *k.managed(&record) == "" {
				p.verb = k.release
			}
		}
		_, changed, err := differing(p.before, p.after)
		if err != nil {
			return nil, err
		}
		if p.before != nil && len(changed) == 0 {
			continue
		}
		p.write = func(tx *tokenstore.Tx) error { return k.put(tx, &record) }
		plan = append(plan, p)
	}
	return plan, nil
}

func scopeFields(s *tokenstore.DeclaredScope) fields {
	return fields{"nature": s.Nature, "managed_by": s.ManagedBy}
}

func roleFields(r *token.Role) fields {
	return fields{"access": r.Ceiling.Access, "scopes": list(r.Ceiling.Scopes), "managed_by": r.ManagedBy}
}

// policyFields are the knobs as the policy is stored, so that a new knob is in
// the audit log and in the hash without a word here.
func policyFields(p *token.Policy) (fields, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	var f fields
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("encode policy: %w", err)
	}
	delete(f, "name")
	delete(f, "version")
	f["rotation_modes"] = p.RotationModes // stored only where they are not the default's
	return f, nil
}

// hashOf identifies a declaration, so that nodes with different configurations
// can tell.
func hashOf(f fields) (string, error) {
	text, err := f.encode()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:16]), nil
}

// Roles lists what roles there are.
func (a *Authority) Roles(ctx context.Context, by By) (roles []token.Role, err error) {
	err = a.see(ctx, by, VerbListRoles, anything, func(s *step) (err error) {
		roles, err = s.tx.Roles()
		return err
	})
	return roles, err
}

// Policies lists what policies there are.
func (a *Authority) Policies(ctx context.Context, by By) (policies []token.Policy, err error) {
	err = a.see(ctx, by, VerbListPolicies, anything, func(s *step) (err error) {
		policies, err = s.tx.Policies()
		return err
	})
	return policies, err
}

// Scopes lists the declared scopes; the built-in ones are not among them.
func (a *Authority) Scopes(ctx context.Context, by By) (scopes []tokenstore.DeclaredScope, err error) {
	err = a.see(ctx, by, VerbListScopes, anything, func(s *step) (err error) {
		scopes, err = s.tx.Scopes()
		return err
	})
	return scopes, err
}
