package tokenstore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// encryptLabel derives the key for values that have to be had again, such as
// signing secrets of webhooks.
const encryptLabel = "sallyport/v1/encrypt"

// ErrSealed: an encrypted value does not open: it was changed, moved to another
// record, or is under a key that the ring lacks.
var ErrSealed = errors.New("tokenstore: an encrypted value does not open under the ring's keys")

// Encrypt encrypts a value under one of the ring's keys, bound to what it belongs
// to: it opens nowhere else.
func (r *Ring) Encrypt(keyID, belongsTo string, value []byte) ([]byte, error) {
	aead, err := r.aead(keyID)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, value, []byte(belongsTo)), nil
}

// Decrypt opens what Encrypt made; ErrSealed.
func (r *Ring) Decrypt(keyID, belongsTo string, sealed []byte) ([]byte, error) {
	aead, err := r.aead(keyID)
	if err != nil {
		return nil, err
	}
	value, err := aead.Open(nil, nil, sealed, []byte(belongsTo))
	if err != nil {
		return nil, ErrSealed
	}
	return value, nil
}

func (r *Ring) aead(keyID string) (cipher.AEAD, error) {
	key := r.key(keyID)
	if key == nil {
		return nil, fmt.Errorf("%w: there is no key %q: add its line back to the master key file", ErrSealed, keyID)
	}
	derived, err := hkdf.Key(sha256.New, key.master[:], nil, encryptLabel, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive from a master key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
