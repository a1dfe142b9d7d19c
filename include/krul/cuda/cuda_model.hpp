#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

#include "krul/backend/model_backend.hpp"
#include "krul/compress/decodes_chunks.hpp"
#include "krul/core/error.hpp"
#include "krul/core/resource.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/gguf.hpp"

namespace krul::cuda {

/// A cache of a CudaModel, in the device's memory. Its members are DeviceKvCache's.
class CudaKvCache {
 public:
  CudaKvCache(CudaKvCache&&) noexcept;
  CudaKvCache& operator=(CudaKvCache&&) noexcept;
  ~CudaKvCache();

  [[nodiscard]] std::size_t capacity() const;
  [[nodiscard]] std::size_t length() const;
  [[nodiscard]] const TokenSet& present(std::size_t layer) const;
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from);
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const;
  void wait(Ticket ticket) const;
  void commit(std::size_t count);
  void truncate(std::size_t count);

 private:
  friend class CudaModel;
  friend class CudaDecoder;
  struct State;
  explicit CudaKvCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};
static_assert(KvCache<CudaKvCache>);

/// A batch of a CudaModel, in the device's memory. Its members are DeviceBatch's.
class CudaBatch {
 public:
  CudaBatch(CudaBatch&&) noexcept;
  CudaBatch& operator=(CudaBatch&&) noexcept;
  ~CudaBatch();

  void assign(std::span<const Position> positions);
  [[nodiscard]] std::span<const Position> positions() const;
  void keep(std::span<const RowRange> rows);
  /// In the host's memory until the next step.
  [[nodiscard]] std::span<float> hidden();

 private:
  friend class CudaModel;
  struct State;
  explicit CudaBatch(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};
static_assert(LayerBatch<CudaBatch>);

/// What decodes the chunks of one restore for a CudaModel, see DeviceDecoder.
class CudaDecoder {
 public:
  CudaDecoder(CudaDecoder&&) noexcept;
  CudaDecoder& operator=(CudaDecoder&&) noexcept;
  ~CudaDecoder();

  [[nodiscard]] bool takes(std::uint8_t coding) const;
  [[nodiscard]] Status decode(const StoredChunk& chunk, CudaKvCache& cache);
  void finish();

 private:
  friend class CudaModel;
  struct State;
  explicit CudaDecoder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Which device runs a model, and how.
struct CudaOptions {
  int device = 0;                              ///< as devices() counts them
  ElementType arithmetic = ElementType::bf16;  ///< of matrices and activations; sums are f32
  ElementType cache_type = ElementType::f16;
  std::string tokenizer = {};  ///< hash for the identity
  DecoderLimits limits = {};
};

/// DeviceBackend on a CUDA device with cuBLAS, for callers that any compiler compiles. What its steps throw stands
/// there.
class CudaModel {
 public:
  using Cache = CudaKvCache;
  using Batch = CudaBatch;
  using Decoder = CudaDecoder;
  static constexpr Resource computes_on = Resource::device;

  /// @return as DeviceBackend::load; backend if there is no such device; unsupported, naming the CMake option, if krul
  ///         was built without CUDA
  [[nodiscard]] static Result<CudaModel> load(GgufFile file, const CudaOptions& options = {});

  CudaModel(CudaModel&&) noexcept;
  CudaModel& operator=(CudaModel&&) noexcept;
  ~CudaModel();

  [[nodiscard]] const Geometry& geometry() const;
  [[nodiscard]] const Identity& identity() const;
  [[nodiscard]] Cache make_cache(std::size_t capacity) const;
  [[nodiscard]] Batch make_batch() const;
  [[nodiscard]] Decoder make_decoder(const std::shared_ptr<const Profile>& profile);
  void embed(std::span<const Token> tokens, Batch& batch);
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write);
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    using Observer = std::remove_cvref_t<O>;
    if constexpr (std::is_same_v<Observer, NullObserver>) {
      attend_rows(layer, batch, cache);
    } else {
      Shown shown{.show = [&](const AttentionBlock& block) { observer(block); },
                  .wanted =
                      [&](Position query) {
                        if constexpr (SelectiveObserver<Observer>) return observer.wants(query);
                        return true;
                      },
                  .counted = {},
                  .summed = {}};
      if constexpr (SummingObserver<Observer>)
        if (observer.sums()) {
          shown.counted = [&](std::size_t of, std::span<const Position> rows) { return observer.counts(of, rows); };
          shown.summed = [&](std::size_t of, std::span<const float> squares) { observer.take_squares(of, squares); };
        }
      attend_observed(layer, batch, cache, shown);
    }
  }
  void finish(std::size_t layer, Batch& batch);
  void logits(Batch& batch, RowRange rows, std::span<float> out);

 private:
  /// Any observer.
  struct Shown {
    std::function<void(const AttentionBlock&)> show;
    std::function<bool(Position)> wanted;
    std::function<std::span<const float>(std::size_t, std::span<const Position>)> counted;  ///< none: blocks are shown
    std::function<void(std::size_t, std::span<const float>)> summed;

    void operator()(const AttentionBlock& block) const { show(block); }
    [[nodiscard]] bool wants(Position query) const { return wanted(query); }
    [[nodiscard]] bool sums() const { return static_cast<bool>(counted); }
    [[nodiscard]] std::span<const float> counts(std::size_t layer, std::span<const Position> positions) const {
      return counted(layer, positions);
    }
    void take_squares(std::size_t layer, std::span<const float> squares) const { summed(layer, squares); }
  };
  static_assert(SelectiveObserver<Shown> && SummingObserver<Shown>);
  struct State;
  explicit CudaModel(std::unique_ptr<State> state);
  void attend_rows(std::size_t layer, Batch& batch, Cache& cache);
  void attend_observed(std::size_t layer, Batch& batch, Cache& cache, const Shown& observer);

  std::unique_ptr<State> state_;
};
static_assert(DecodesChunks<CudaModel>);

}  // namespace krul::cuda
