#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "krul/backend/model_backend.hpp"
#include "krul/compress/joint/profile.hpp"

namespace krul {

/// A stored chunk on its way to whoever decodes it.
struct StoredChunk {
  std::uint8_t coding = 0;               ///< see coding_numbers.hpp
  std::size_t first_layer = 0;           ///< of those that were coded into it
  TokenRange tokens;                     ///< whose rows it holds
  std::span<const std::byte> bytes;      ///< not trusted yet
  std::span<const float> features = {};  ///< [T, F] of the tokens, where its profile asks for them
};

/// A backend that decodes chunks itself, where its caches live, so that coded bytes go there and not rows.
///
///   make_decoder(profile)    for one restore; the profile may be none
///   takes(coding)            whether it decodes such chunks
///   decode(chunk, cache)     asks for the chunk's rows; the bytes are not needed any more when it returns. Fails if
///                            they cannot be a chunk of those tokens
///   finish()                 waits: the rows of sound chunks, all finite, are present then in all of their layers,
///                            those of others are not. The caches must stay where they are until then
/// What it makes of a chunk are the bits that a CodingSet makes of it.
template <class B>
concept DecodesChunks = ModelBackend<B> &&
    requires(B& model, const std::shared_ptr<const Profile>& profile, typename B::Decoder& decoder,
             typename B::Cache& cache, const StoredChunk& chunk) {
  { model.make_decoder(profile) } -> std::same_as<typename B::Decoder>;
  { decoder.takes(chunk.coding) } -> std::same_as<bool>;
  { decoder.decode(chunk, cache) } -> std::same_as<Status>;
  { decoder.finish() } -> std::same_as<void>;
};

}  // namespace krul
