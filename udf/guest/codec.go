package guest

import (
	"github.com/locuskv/locus/udf/guest/bare"
	"github.com/locuskv/locus/udf/internal/coder"
	"github.com/locuskv/locus/udf/internal/shape"
)

// CodeBadArgument is the code of the error for an argument that is not what the function takes.
const CodeBadArgument = shape.CodeBadArgument

// coderOf panics if the codec can't carry T: the host reports it when the module is registered.
func coderOf[T any](function string, c shape.Codec) coder.Coder[T] {
	switch c {
	case shape.CodecJSON:
		return coder.JSON[T]()
	case shape.CodecRaw:
		if k, ok := coder.Raw[T](); ok {
			return k
		}
	}
	panic("locus guest: function " + function + ": codec " + c.String() + " can't carry " + coder.TypeName[T]())
}

func decodeArgument[In any](function string, in coder.Coder[In], arg []byte) (In, error) {
	v, err := in.Decode(arg)
	if err != nil {
		return v, bare.Error(CodeBadArgument, "function "+function+" takes an argument of type "+coder.TypeName[In]()+": "+err.Error())
	}
	return v, nil
}
