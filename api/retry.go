package api

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/sallyport/sallyport/authority"
)

// retryOf binds an Idempotency-Key to the body that it came with, in one canonical
// form, so that a client that writes its JSON in another order still repeats the
// same request. The authority binds it to the verb, the record and the actor.
func retryOf(key string, body any) (authority.Retry, error) {
	if key == "" {
		return authority.Retry{}, nil
	}
	canonical, err := json.Marshal(body)
	if err != nil {
		return authority.Retry{}, err
	}
	return authority.Retry{Key: key, BodyHash: sha256.Sum256(canonical)}, nil
}
