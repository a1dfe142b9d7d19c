#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "krul/backend/attention_observer.hpp"
#include "krul/backend/forward_each.hpp"
#include "krul/backend/host_kv_cache.hpp"
#include "krul/backend/layer_batch.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/error.hpp"
#include "krul/model/any_kernels.hpp"
#include "krul/model/attention.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/gguf.hpp"
#include "krul/model/matrix_kernels.hpp"

namespace krul {

/// Threads that a backend runs on at most.
inline constexpr std::size_t most_threads = 1024;

struct CpuBackendOptions {
  std::size_t threads = 0;  ///< most_threads at most; 0: as many as the machine has
  ElementType cache_type = ElementType::f16;
  std::string tokenizer = {};  ///< hash for the identity
  std::size_t vocabulary = 0;  ///< the tokens that there are: further rows of the embedding have none; 0: all rows
  std::size_t context = 0;     ///< longest conversation in tokens, no more than the file says; 0: what the file says
};

/// Bytes that packed weights take.
struct WeightBytes {
  std::size_t layers = 0;
  std::size_t output = 0;  ///< of the matrix that makes the logits
};

/// The forward pass of llama and qwen2 models on the cores of this machine.
///
/// Weights are unpacked once into the kernels' layout; embedding rows are read from the mapped file when they are
/// needed. Many rows are cut into tiles that each run through all of a step on one core, so that activations stay in
/// its cache; few rows share each matrix by columns. Rows of several caches are rows like others but in attention. The
/// choice changes no bit where the kernels keep a row's bits apart from the rows beside it, as krul's and oneDNN's do.
/// Passes with different batches and caches may run at once in different threads; they take turns on the one team of
/// workers.
template <MatrixKernels K>
class CpuBackend {
 public:
  using Cache = HostKvCache;
  using Batch = HostLayerBatch;

  /// Fails as DecoderFile::read; corrupt if a matrix holds numbers that are not finite, naming it, or there are more
  /// tokens than rows of the embedding; invalid_argument for more than 1,024 threads or more context than the file
  /// says; too_large if memory does not suffice; backend if the kernels refuse.
  [[nodiscard]] static Result<CpuBackend> load(GgufFile file, K kernels, const CpuBackendOptions& options = {});

  CpuBackend(CpuBackend&&) noexcept;
  CpuBackend& operator=(CpuBackend&&) noexcept;
  ~CpuBackend();

  [[nodiscard]] const Geometry& geometry() const;
  [[nodiscard]] const Identity& identity() const;
  /// A cache of the same capacity as the last one that is gone takes over its memory.
  [[nodiscard]] Cache make_cache(std::size_t capacity) const;
  [[nodiscard]] Batch make_batch() const { return Batch(geometry()); }

  /// What the factors of matrix products are rounded to; for attention's see attention_arithmetic.
  [[nodiscard]] Precision precision() const;
  /// Sizes that the geometry does not tell. Its pointers are valid as long as this backend.
  [[nodiscard]] const DecoderFile& description() const;
  /// What the packed weights take.
  [[nodiscard]] WeightBytes weight_bytes() const;
  /// The team that runs the passes; others may use it between them.
  [[nodiscard]] Workers& workers();

  /// @throws PreconditionError if the tokens are not as many as the rows or not in the vocabulary
  void embed(std::span<const Token> tokens, Batch& batch);
  /// @throws PreconditionError if there is no such layer, or a row lies beyond the cache or the model's context;
  ///         NotFiniteError, as finish and logits do, if what goes into a product is not finite
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
    Cache* const one = &cache;
    project(layer, batch, std::span(&one, 1), write);
  }
  /// The same over rows of several caches.
  /// @throws PreconditionError as for one, and unless there is a cache for each run of the batch's rows
  void project(std::size_t layer, Batch& batch, std::span<Cache* const> caches, KvWrite write);
  /// @throws PreconditionError if there is no such layer, or a key that a row may see is not present
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    expects(batch.runs().size() == 1, "attend: the rows belong to several caches");
    if constexpr (std::is_same_v<std::remove_cvref_t<O>, NullObserver>) {
      attend_rows(layer, batch, cache);
    } else {
      if constexpr (LendingObserver<std::remove_cvref_t<O>>)
        if (observer.lends()) {
          const auto rows = std::as_const(batch).positions();
          attend_rows(layer, batch, cache, observer.lend(layer, rows));
          observer.take(layer, rows);
          return;
        }
      std::vector<std::size_t> wanted;
      const auto positions = std::as_const(batch).positions();
      for (std::size_t row = 0; row < positions.size(); ++row) {
        if constexpr (SelectiveObserver<std::remove_cvref_t<O>>)
          if (!observer.wants(positions[row])) continue;
        wanted.push_back(row);
      }
      attend_observed(layer, batch, cache, wanted, [&](const AttentionBlock& block) { observer(block); });
    }
  }
  /// The same over rows of several caches, which no observer sees.
  /// @throws PreconditionError as for one, and unless there is a cache for each run of the batch's rows
  void attend(std::size_t layer, Batch& batch, std::span<Cache* const> caches);
  /// @throws PreconditionError if there is no such layer
  void finish(std::size_t layer, Batch& batch);
  /// @throws PreconditionError if the rows are not in the batch or `out` is not [rows, vocabulary]
  void logits(Batch& batch, RowRange rows, std::span<float> out);

 private:
  struct State;
  explicit CpuBackend(std::unique_ptr<State> state);

  void attend_rows(std::size_t layer, Batch& batch, const Cache& cache, const LentWeights& lent = {});
  /// attend_rows, and the weights of the wanted rows shown block by block.
  void attend_observed(std::size_t layer, Batch& batch, const Cache& cache, std::span<const std::size_t> wanted,
                       const std::function<void(const AttentionBlock&)>& show);

  std::unique_ptr<State> state_;
};

extern template class CpuBackend<EigenKernels>;
extern template class CpuBackend<KrulKernels>;
extern template class CpuBackend<OnednnKernels>;
extern template class CpuBackend<AnyKernels>;
static_assert(BatchesCaches<CpuBackend<EigenKernels>>);
static_assert(BatchesCaches<CpuBackend<AnyKernels>>);

}  // namespace krul
