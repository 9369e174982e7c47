package api

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/sallyport/sallyport/authority"
	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// AuditEntry says who did what to which record, and when.
type AuditEntry struct {
	Seq         int64           `json:"seq" doc:"The place in the chain, from 1 without gaps." example:"42"`
	At          time.Time       `json:"at" doc:"When it happened (RFC 3339, UTC)."`
	Actor       Actor           `json:"actor"`
	RequestedBy *token.ID       `json:"requested_by" doc:"The user in whose name an operator acted; null when it was nobody's." example:"usr_example"`
	Verb        string          `json:"verb" doc:"What was done." example:"token.rotate"`
	Target      string          `json:"target" doc:"The ID or the name of the record." example:"tok_example"`
	AccountID   *token.ID       `json:"account_id" doc:"The account that the record belongs to; null when it belongs to none." example:"acc_example"`
	Before      json.RawMessage `json:"before,omitempty" doc:"The fields that the change touched, as they were."`
	After       json.RawMessage `json:"after,omitempty" doc:"The same fields, as they became."`
	RequestID   string          `json:"request_id" doc:"The X-Request-Id of the response; empty for what no request asked for."`
	KeyID       string          `json:"key_id" doc:"The master key that the MAC is made under."`
	Hash        string          `json:"hash" doc:"Hexadecimal SHA-256 over the entry and the hash before it."`
	MAC         string          `json:"mac" doc:"Hexadecimal HMAC-SHA256 of the hash."`
}

// Actor is who asked for a change.
type Actor struct {
	Kind     string `json:"kind" doc:"operator: whoever reaches this API or the store. user: a user of an account. token: a token. system: the gateway itself." example:"operator"`
	Name     string `json:"name" doc:"An ID, or what an operator goes by." example:"ada"`
	Verified bool   `json:"verified" doc:"False when the name is the actor's own claim."`
	Address  string `json:"address" doc:"Where the request came from, as far as it is known." example:"127.0.0.1"`
}

// AuditHead is the end of the chain. Kept outside the store, it lets a later
// check notice that the log was cut off.
type AuditHead struct {
	Seq   int64      `json:"seq" minimum:"0" maximum:"9007199254740991" doc:"The place of the last entry." example:"42"`
	At    *time.Time `json:"at" doc:"When the last entry was written (RFC 3339, UTC); null for an empty chain."`
	KeyID string     `json:"key_id" maxLength:"128" doc:"The master key that the MAC is made under."`
	Hash  string     `json:"hash" pattern:"^[0-9a-f]{64}$" doc:"Hexadecimal SHA-256 of the last entry."`
	MAC   string     `json:"mac" pattern:"^[0-9a-f]{64}$" doc:"Hexadecimal HMAC-SHA256 of the hash."`
}

// AuditCheck asks for a check of the chain.
type AuditCheck struct {
	_ struct{} `additionalProperties:"false"`

	EarlierHead *AuditHead `json:"earlier_head,omitempty" doc:"A head that an earlier check gave: the chain must still contain it."`
}

// AuditReport is what the check found.
type AuditReport struct {
	Valid    bool      `json:"valid" doc:"Whether the chain holds."`
	Entries  int64     `json:"entries" doc:"How many entries were walked."`
	Head     AuditHead `json:"head" doc:"The end of the chain; keep it elsewhere for the next check."`
	Problems []string  `json:"problems" nullable:"false" doc:"What is wrong, entry by entry; empty when the chain holds."`
}

func auditEntryOf(e *tokenstore.AuditEntry) AuditEntry {
	w := AuditEntry{
		Seq: e.Seq,
		At:  e.At.UTC(),
		Actor: Actor{
			Kind:     string(e.Actor.Kind),
			Name:     e.Actor.Name,
			Verified: e.Actor.Verified,
			Address:  e.Actor.Address,
		},
		Verb:      e.Verb,
		Target:    e.Target,
		Before:    e.Before,
		After:     e.After,
		RequestID: e.RequestID,
		KeyID:     e.KeyID,
		Hash:      hex.EncodeToString(e.Hash[:]),
		MAC:       hex.EncodeToString(e.MAC[:]),
	}
	if e.AccountID != "" {
		w.AccountID = &e.AccountID
	}
	if id := authority.RequesterOf(e); id != "" {
		w.RequestedBy = &id
	}
	return w
}

func auditHeadOf(h *tokenstore.AuditHead) AuditHead {
	return AuditHead{
		Seq:   h.Seq,
		At:    timeOrNull(h.At),
		KeyID: h.KeyID,
		Hash:  hex.EncodeToString(h.Hash[:]),
		MAC:   hex.EncodeToString(h.MAC[:]),
	}
}

// storeHead reads a head back. Its hexadecimal fields were checked against the
// schema; a length that is wrong all the same leaves zeros, which match nothing.
func (h *AuditHead) storeHead() *tokenstore.AuditHead {
	s := &tokenstore.AuditHead{Seq: h.Seq, KeyID: h.KeyID}
	if h.At != nil {
		s.At = *h.At
	}
	decodeHash(&s.Hash, h.Hash)
	decodeHash(&s.MAC, h.MAC)
	return s
}

func decodeHash(into *[32]byte, text string) {
	if b, err := hex.DecodeString(text); err == nil && len(b) == len(into) {
		copy(into[:], b)
	}
}
