package gateway

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
)

// A continuation token is made by one node, kept by a client, and taken by another node. It is encrypted and
// authenticated, with a key that only nodes have:
//
//	format (1) │ id of the key (8) │ timestamp of the run (8) │ salt (16) │ nonce (12), ciphertext, tag (16)
//
// The first 17 bytes can be read by anybody and altered by nobody. AES-256-GCM with a random nonce is safe for 2^32
// messages of a key; each token has a key of its own, derived from the cluster's by HKDF and the salt.
const (
	tokenFormat = 1
	tokenHeader = 1 + 8 + 8
	tokenSalt   = 16
	tokenKeyLen = 32
	// tokenPurpose is what the derived keys are for.
	tokenPurpose = "locus continuation token, format 1"
	// maxToken bounds what is looked at.
	maxToken = 24 << 20
)

// Key is a secret of the cluster.
type Key struct {
	ID     uint64
	Secret []byte // 32 bytes
}

// Keyring has the cluster's keys of continuation tokens.
type Keyring interface {
	// Current is the key for new tokens; false if this node has none before ctx ends.
	Current(ctx context.Context) (Key, bool)
	// Find is the key of an id; false if the cluster has none.
	Find(ctx context.Context, id uint64) (Key, bool, error)
}

func refuse(format string, args ...any) error {
	return &api.ContinuationError{Reason: fmt.Sprintf(format, args...)}
}

// seal makes a token.
func seal(k Key, ts hlc.Timestamp, plain []byte) ([]byte, error) {
	token := make([]byte, 0, tokenHeader+tokenSalt+28+len(plain))
	token = append(token, tokenFormat)
	token = binary.BigEndian.AppendUint64(token, k.ID)
	token = binary.BigEndian.AppendUint64(token, uint64(ts))
	token = token[:tokenHeader+tokenSalt]
	if _, err := rand.Read(token[tokenHeader:]); err != nil {
		return nil, err
	}
	aead, err := tokenCipher(k, token[tokenHeader:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(token, nil, plain, token[:tokenHeader]), nil
}

// unseal is what a token was made of, if this cluster made it.
func unseal(ctx context.Context, keys Keyring, token []byte) (ts hlc.Timestamp, plain []byte, err error) {
	switch {
	case len(token) > maxToken:
		return 0, nil, &api.LimitError{What: "continuation", Limit: maxToken, Got: int64(len(token))}
	case len(token) < 1 || token[0] != tokenFormat:
		return 0, nil, refuse("it is not one of format %d", tokenFormat)
	case len(token) < tokenHeader+tokenSalt:
		return 0, nil, refuse("it is cut off")
	case keys == nil:
		return 0, nil, refuse("this node takes none")
	}
	id := binary.BigEndian.Uint64(token[1:])
	k, ok, err := keys.Find(ctx, id)
	if err != nil {
		return 0, nil, err
	}
	if !ok {
		return 0, nil, refuse("it was made with key %016x, which this cluster does not have", id)
	}
	header, salt, sealed := token[:tokenHeader], token[tokenHeader:tokenHeader+tokenSalt], token[tokenHeader+tokenSalt:]
	aead, err := tokenCipher(k, salt)
	if err != nil {
		return 0, nil, err
	}
	if plain, err = aead.Open(nil, nil, sealed, header); err != nil {
		return 0, nil, refuse("it was altered, or not made by this cluster")
	}
	return hlc.Timestamp(binary.BigEndian.Uint64(token[9:])), plain, nil
}

func tokenCipher(k Key, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, k.Secret, salt, tokenPurpose, tokenKeyLen)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
