#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "krul/backend/either.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// In the place of the decoder of a backend that decodes no chunks.
struct NoDecoder {};

/// What decodes chunks for one of two backends: see DecodesChunks. It takes none if the backend decodes none.
template <class First, class Second>
class EitherDecoder {
 public:
  /// @tparam I  0 or 1: of which backend
  template <std::size_t I, class D>
  EitherDecoder(std::in_place_index_t<I> which, D decoder) : held_(which, std::move(decoder)) {}

  [[nodiscard]] bool takes(std::uint8_t coding) {
    return held_.visit([&](auto& decoder) {
      if constexpr (requires { decoder.takes(coding); })
        return decoder.takes(coding);
      else
        return false;
    });
  }
  /// @throws PreconditionError if the cache is the other backend's
  template <class Chunk, class Cache>
  [[nodiscard]] Status decode(const Chunk& chunk, Cache& cache) {
    return held_.kind() == 0 ? decode_by(held_.template as<0>(), chunk, cache.template of<0>())
                             : decode_by(held_.template as<1>(), chunk, cache.template of<1>());
  }
  void finish() {
    held_.visit([](auto& decoder) {
      if constexpr (requires { decoder.finish(); }) decoder.finish();
    });
  }

 private:
  template <class D, class Chunk, class Cache>
  static Status decode_by(D& decoder, const Chunk& chunk, Cache& cache) {
    if constexpr (requires { decoder.decode(chunk, cache); })
      return decoder.decode(chunk, cache);
    else
      return fail(ErrorCode::unsupported, "the backend decodes no chunks");
  }

  Either<First, Second> held_;
};

/// A backend's own decoder, or none.
template <class B>
struct DecoderOf {
  using Type = NoDecoder;
};
template <class B>
requires requires {
  typename B::Decoder;
}
struct DecoderOf<B> {
  using Type = typename B::Decoder;
};

}  // namespace krul
