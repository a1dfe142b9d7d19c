#include "krul/compress/any_chunk_coder.hpp"

#include "krul/compress/layer_pair_compressor.hpp"

namespace krul {

AnyChunkCoder::AnyChunkCoder() : AnyChunkCoder(LayerPairCompressor<>()) {}

}  // namespace krul
