package tokenstore

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// headFormat names the shape of an exported head.
const headFormat = "sallyport-audit-head/v1"

type headJSON struct {
	Format string `json:"format"`
	Seq    int64  `json:"seq"`
	At     string `json:"at"`
	KeyID  string `json:"key_id"`
	Hash   string `json:"hash"`
	MAC    string `json:"mac"`
}

const headTime = "2006-01-02T15:04:05.000000Z"

// MarshalJSON writes the head as it is kept outside the store.
func (h AuditHead) MarshalJSON() ([]byte, error) {
	return json.Marshal(headJSON{
		Format: headFormat,
		Seq:    h.Seq,
		At:     h.At.UTC().Format(headTime),
		KeyID:  h.KeyID,
		Hash:   hex.EncodeToString(h.Hash[:]),
		MAC:    hex.EncodeToString(h.MAC[:]),
	})
}

// UnmarshalJSON accepts what MarshalJSON writes, and no other spelling of a
// value. Errors name the field and repeat nothing.
func (h *AuditHead) UnmarshalJSON(text []byte) error {
	var j headJSON
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&j); err != nil {
		return errors.New("audit head: not the JSON object that an audit head is written as")
	}
	if j.Format != headFormat {
		return fmt.Errorf("audit head: format: must be %q; this is another file, or one of a newer release", headFormat)
	}
	if j.Seq < 1 {
		return errors.New("audit head: seq: must be the number of an entry, 1 or more")
	}
	if !validKeyID(j.KeyID) {
		return errors.New("audit head: key_id: must be the ID of a master key")
	}
	at, err := time.Parse(headTime, j.At)
	if err != nil || at.Format(headTime) != j.At {
		return errors.New("audit head: at: must be a time in UTC with microseconds, as 2006-01-02T15:04:05.000000Z")
	}
	parsed := AuditHead{Seq: j.Seq, At: at, KeyID: j.KeyID}
	if err := decodeHex(parsed.Hash[:], j.Hash); err != nil {
		return fmt.Errorf("audit head: hash: %w", err)
	}
	if err := decodeHex(parsed.MAC[:], j.MAC); err != nil {
		return fmt.Errorf("audit head: mac: %w", err)
	}
	*h = parsed
	return nil
}

func decodeHex(into []byte, text string) error {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(into) || hex.EncodeToString(raw) != text {
		return fmt.Errorf("must be %d bytes in lower-case hexadecimal", len(into))
	}
	copy(into, raw)
	return nil
}
