#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/chunk_coder.hpp"
#include "krul/core/detail/erased.hpp"

namespace krul {

/// A chunk coder chosen while the program runs: krul's or anyone's. A value; copies share the coder, which is const.
/// Dispatches once a chunk.
class AnyChunkCoder {
 public:
  /// The cache's own bytes, layer by layer.
  AnyChunkCoder();
  template <class Coder>
  requires(!std::same_as<Coder, AnyChunkCoder> && ChunkCoder<Coder>) AnyChunkCoder(Coder coder)
      : coder_(std::make_shared<const Of<Coder>>(std::move(coder))) {}

  [[nodiscard]] std::string name() const { return coder_->name(); }
  [[nodiscard]] std::size_t layers() const { return coder_->layers(); }
  [[nodiscard]] std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const {
    return coder_->largest_bytes(geometry, rows);
  }
  /// @throws PreconditionError as the coder does
  [[nodiscard]] std::vector<std::byte> encode(const Geometry& geometry, std::span<const KvRows> group,
                                              const BlockContext& context = {}) const {
    return coder_->encode(geometry, group, context);
  }
  /// @throws PreconditionError as the coder does
  [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                              std::span<const MutableKvRows> group, const BlockContext& context = {}) const {
    return coder_->decode(geometry, chunk, group, context);
  }

 private:
  struct Interface : detail::Erased {
    [[nodiscard]] virtual std::string name() const = 0;
    [[nodiscard]] virtual std::size_t layers() const = 0;
    [[nodiscard]] virtual std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const = 0;
    [[nodiscard]] virtual std::vector<std::byte> encode(const Geometry& geometry, std::span<const KvRows> group,
                                                        const BlockContext& context) const = 0;
    virtual Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                          std::span<const MutableKvRows> group, const BlockContext& context) const = 0;
  };
  template <class Coder>
  struct Of final : Interface {
    explicit Of(Coder held_coder) : held(std::move(held_coder)) {}
    std::string name() const override { return held.name(); }
    std::size_t layers() const override { return held.layers(); }
    std::size_t largest_bytes(const Geometry& geometry, std::size_t rows) const override {
      return held.largest_bytes(geometry, rows);
    }
    std::vector<std::byte> encode(const Geometry& geometry, std::span<const KvRows> group,
                                  const BlockContext& context) const override {
      return held.encode(geometry, group, context);
    }
    [[nodiscard]] Status decode(const Geometry& geometry, std::span<const std::byte> chunk,
                                std::span<const MutableKvRows> group, const BlockContext& context) const override {
      return held.decode(geometry, chunk, group, context);
    }
    Coder held;
  };

  std::shared_ptr<const Interface> coder_;
};
static_assert(ChunkCoder<AnyChunkCoder>);

}  // namespace krul
