package authority

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// fields are what an audit entry tells of a record, by the names that the API
// uses. Secrets and digests never come into one; the last four characters do,
// because people name secrets by them.
type fields map[string]any

// fieldRequestedBy names the user in whose name an operator acted.
const fieldRequestedBy = "requested_by"

// RequesterOf gives the user in whose name an operator did what an entry tells;
// empty: nobody's.
func RequesterOf(e *tokenstore.AuditEntry) token.ID {
	var named struct {
		RequestedBy token.ID `json:"requested_by"`
	}
	if e.Actor.Kind != tokenstore.OperatorActor || json.Unmarshal(e.After, &named) != nil {
		return ""
	}
	return named.RequestedBy
}

// audit appends the entry of the verb that is carried out.
func (s *step) audit(before, after fields) error {
	return s.auditAs(s.verb, s.target, before, after)
}

// auditAs appends an entry about one of several records that a verb changes.
func (s *step) auditAs(v Verb, t target, before, after fields) error {
	old, err := before.encode()
	if err != nil {
		return err
	}
	if s.by.RequestedBy != "" {
		// Beside the operator who acts, in every entry that comes of it.
		after = maps.Clone(after)
		if after == nil {
			after = fields{}
		}
		after[fieldRequestedBy] = s.by.RequestedBy
	}
	now, err := after.encode()
	if err != nil {
		return err
	}
	s.tx.Audit(tokenstore.AuditEntry{
		At:        s.now,
		Actor:     s.by.Actor,
		Verb:      string(v),
		Target:    t.id,
		AccountID: t.account,
		Before:    old,
		After:     now,
		RequestID: s.by.RequestID,
	})
	return nil
}

func (f fields) encode() ([]byte, error) {
	if len(f) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // it is read by people, and never as HTML
	if err := encoder.Encode(f); err != nil {
		return nil, fmt.Errorf("encode an audit entry: %w", err)
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// differing reduces two states of one record to the fields that differ.
func differing(before, after fields) (fields, fields, error) {
	old, now := fields{}, fields{}
	for name := range after {
		a, err := json.Marshal(before[name])
		if err != nil {
			return nil, nil, fmt.Errorf("compare a field: %w", err)
		}
		b, err := json.Marshal(after[name])
		if err != nil {
			return nil, nil, fmt.Errorf("compare a field: %w", err)
		}
		if !bytes.Equal(a, b) {
			old[name], now[name] = before[name], after[name]
		}
	}
	return old, now, nil
}

// stamp is a time as entries show it; no time is null.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// list keeps an empty list from being written as null.
func list(entries []string) []string {
	if entries == nil {
		return []string{}
	}
	return entries
}

func tokenFields(t *token.Token) fields {
	f := fields{
		"name":         t.Name,
		"account_id":   t.AccountID,
		"user_id":      t.UserID,
		"access":       t.Grant.Access,
		"scopes":       list(t.Grant.Scopes),
		"ip_allowlist": list(t.AllowList.Strings()),
		"environment":  t.Environment,
		"state":        t.State,
		"expires_at":   stamp(t.ExpiresAt),
		"fresh_only":   t.FreshOnly,
	}
	if t.EndReason != "" {
		f["end_reason"] = t.EndReason
	}
	return f
}

func accountFields(a *token.Account) fields {
	return fields{"name": a.Name, "policy": a.Policy, "disabled": a.Disabled, "tokens_off": a.TokensOff}
}

func userFields(u *token.User) fields {
	return fields{
		"account_id":     u.AccountID,
		"name":           u.Name,
		"email":          u.Email,
		"role":           u.Role,
		"business_units": list(u.BusinessUnits),
		"disabled":       u.Disabled,
		"tokens_off":     u.TokensOff,
	}
}

// AuditEntries lists a page of the audit log, newest first.
func (a *Authority) AuditEntries(ctx context.Context, by By, q tokenstore.AuditQuery) ([]tokenstore.AuditEntry, string, error) {
	for field, text := range map[string]string{"account_id": string(q.AccountID), "target": q.Target, "verb": q.Verb} {
		if err := checkFilter(field, text); err != nil {
			return nil, "", err
		}
	}
	var (
		entries []tokenstore.AuditEntry
		next    string
	)
	find := func(*step) (target, error) { return target{id: q.Target, account: q.AccountID}, nil }
	err := a.see(ctx, by, VerbListAudit, find, func(s *step) (err error) {
		entries, next, err = s.tx.AuditEntries(q)
		return badCursor(err)
	})
	if err != nil {
		return nil, "", err
	}
	return entries, next, nil
}

// VerifyAudit checks the audit log's chain, and with an earlier head also that
// the log still contains that head.
func (a *Authority) VerifyAudit(ctx context.Context, by By, earlier *tokenstore.AuditHead) (tokenstore.AuditReport, error) {
	// The walk takes many transactions, so that it holds none up; permission is
	// asked for once, at its start.
	if err := a.see(ctx, by, VerbVerifyAudit, anything, func(*step) error { return nil }); err != nil {
		return tokenstore.AuditReport{}, err
	}
	report, err := tokenstore.VerifyAudit(ctx, a.Store, a.Ring, earlier)
	if err != nil {
		return tokenstore.AuditReport{}, fmt.Errorf("%s: %w", VerbVerifyAudit, err)
	}
	return report, nil
}
