#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "krul/backend/computes_on.hpp"
#include "krul/backend/either_batch.hpp"
#include "krul/backend/either_cache.hpp"
#include "krul/backend/either_decoder.hpp"
#include "krul/backend/forward_each.hpp"
#include "krul/backend/lends_workers.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/error.hpp"
#include "krul/core/workers.hpp"

namespace krul {

/// One of two backends, chosen when a program runs: whatever is made for it is compiled once. It has the bits, and but
/// for a branch a step the speed, of the backend that it holds, and answers as that does what only some backends can.
template <ModelBackend First, ModelBackend Second>
class EitherBackend {
  static_assert(!std::is_same_v<First, Second>);

 public:
  using Cache = EitherCache<typename First::Cache, typename Second::Cache>;
  using Batch = EitherBatch<typename First::Batch, typename Second::Batch>;
  using Decoder = EitherDecoder<typename DecoderOf<First>::Type, typename DecoderOf<Second>::Type>;

  /// @param threads  of the team that it lends, if the model lends none
  explicit EitherBackend(First model, std::size_t threads = 1) : model_(std::in_place_index<0>, std::move(model)) {
    if constexpr (!LendsWorkers<First>) team_ = std::make_unique<Workers>(threads);
  }
  explicit EitherBackend(Second model, std::size_t threads = 1) : model_(std::in_place_index<1>, std::move(model)) {
    if constexpr (!LendsWorkers<Second>) team_ = std::make_unique<Workers>(threads);
  }

  /// The backend that it holds; null if it holds the other one.
  template <ModelBackend B>
  [[nodiscard]] B* get_if() noexcept {
    return std::get_if<B>(&model_);
  }
  template <ModelBackend B>
  [[nodiscard]] const B* get_if() const noexcept {
    return std::get_if<B>(&model_);
  }

  [[nodiscard]] const Geometry& geometry() const {
    return std::visit([](const auto& model) -> const Geometry& { return model.geometry(); }, model_);
  }
  [[nodiscard]] const Identity& identity() const {
    return std::visit([](const auto& model) -> const Identity& { return model.identity(); }, model_);
  }
  [[nodiscard]] Resource computes_on() const {
    return std::visit([](const auto& model) { return krul::computes_on(model); }, model_);
  }
  /// The model's own team, or one beside it.
  [[nodiscard]] Workers& workers() {
    return std::visit(
        [this](auto& model) -> Workers& {
          if constexpr (LendsWorkers<std::remove_reference_t<decltype(model)>>)
            return model.workers();
          else
            return *team_;
        },
        model_);
  }
  [[nodiscard]] Cache make_cache(std::size_t capacity) {
    return with([&](auto which, auto& model) { return Cache(which, model.make_cache(capacity)); });
  }
  [[nodiscard]] Batch make_batch() {
    return with([](auto which, auto& model) { return Batch(which, model.make_batch()); });
  }
  /// Of the model that it holds: see DecodesChunks.
  template <class ProfilePointer>
  [[nodiscard]] Decoder make_decoder(const ProfilePointer& profile) {
    return with([&](auto which, auto& model) {
      if constexpr (requires { model.make_decoder(profile); })
        return Decoder(which, model.make_decoder(profile));
      else
        return Decoder(which, NoDecoder{});
    });
  }

  /// Each throws as the step of the model that it holds, and PreconditionError if batch or cache are not that model's.
  /// @{
  void embed(std::span<const Token> tokens, Batch& batch) {
    with([&](auto which, auto& model) { model.embed(tokens, batch.template of<index_of(which)>()); });
  }
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
    with([&](auto which, auto& model) {
      constexpr std::size_t index = index_of(which);
      model.project(layer, batch.template of<index>(), cache.template of<index>(), write);
    });
  }
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    with([&](auto which, auto& model) {
      constexpr std::size_t index = index_of(which);
      model.attend(layer, batch.template of<index>(), cache.template of<index>(), observer);
    });
  }
  void finish(std::size_t layer, Batch& batch) {
    with([&](auto which, auto& model) { model.finish(layer, batch.template of<index_of(which)>()); });
  }
  void logits(Batch& batch, RowRange rows, std::span<float> out) {
    with([&](auto which, auto& model) { model.logits(batch.template of<index_of(which)>(), rows, out); });
  }
  /// @}

  /// Whether the steps over several caches may be called: see BatchesCaches.
  [[nodiscard]] bool batches_caches() const {
    return std::visit([](const auto& model) { return krul::batches_caches(model); }, model_);
  }
  /// @throws PreconditionError as for one cache, and if the model that it holds runs one at a time
  void project(std::size_t layer, Batch& batch, std::span<Cache* const> caches, KvWrite write) {
    with_each(batch, caches, [&](auto& model, auto& own, auto each) { model.project(layer, own, each, write); });
  }
  void attend(std::size_t layer, Batch& batch, std::span<Cache* const> caches) {
    with_each(batch, caches, [&](auto& model, auto& own, auto each) { model.attend(layer, own, each); });
  }

 private:
  template <std::size_t I>
  static constexpr std::size_t index_of(std::in_place_index_t<I>) noexcept {
    return I;
  }
  /// use(which, model), with `which` a type for each of the two.
  template <class Use>
  decltype(auto) with(Use&& use) {
    if (auto* const first = std::get_if<0>(&model_)) return use(std::in_place_index<0>, *first);
    return use(std::in_place_index<1>, *std::get_if<1>(&model_));
  }
  template <class Use>
  void with_each(Batch& batch, std::span<Cache* const> caches, Use&& use) {
    with([&](auto which, auto& model) {
      using Model = std::remove_reference_t<decltype(model)>;
      if constexpr (BatchesCaches<Model>) {
        constexpr std::size_t index = index_of(which);
        std::vector<typename Model::Cache*> own;
        for (Cache* const cache : caches) own.push_back(&cache->template of<index>());
        use(model, batch.template of<index>(), std::span<typename Model::Cache* const>(own));
      } else {
        throw PreconditionError("EitherBackend: the model that it holds runs one cache at a time");
      }
    });
  }

  std::variant<First, Second> model_;
  std::unique_ptr<Workers> team_;  ///< if the model lends none
};

}  // namespace krul
