// The paper, part by part, without krul::Conversation: observe attention while the model runs, choose which layers of
// this conversation share their K and V and which prefix of each is not stored, save, plan the restore, and run it.

#include <iostream>
#include <krul/compress/float_codec.hpp>
#include <krul/compress/layer_pair_compressor.hpp>
#include <krul/compress/slerp_merge.hpp>
#include <krul/conversation/save.hpp>
#include <krul/restore/as_stored.hpp>
#include <krul/restore/restoration_scheduler.hpp>
#include <krul/restore/restore.hpp>
#include <krul/similarity/observe.hpp>
#include <krul/similarity/tokenwise_similarity_estimator.hpp>
#include <krul/store/memory_store.hpp>
#include <krul/strategy/attention_similarity.hpp>
#include <krul/strategy/block_bytes.hpp>
#include <krul/strategy/strategy_selector.hpp>
#include <vector>

#include "../02_your_own_backend/toy_backend.hpp"

int main() {
  toy::Backend model;
  krul::MemoryStore store;
  krul::Workers workers(1);
  const krul::Geometry& geometry = model.geometry();
  std::vector<krul::Token> tokens;
  for (krul::Token token = 7; tokens.size() < 260; token = (token * 21 + 13) % 64) tokens.push_back(token);
  const auto history = std::span<const krul::Token>(tokens).first(256);
  const krul::Costs costs{.link = {.bytes_per_s = 2e5},
                          .layer = {.project_row_s = 1e-4, .finish_row_s = 2e-4, .attend_pair_s = 1e-8}};

  // While the model runs: how alike is the attention of each two layers?
  auto cache = model.make_cache(512);
  auto batch = model.make_batch();
  krul::TokenwiseSimilarityEstimator<> estimator(geometry);
  krul::observed_prefill(model, cache, batch, history, {}, estimator);

  // The conversation goes idle: pairs by attention, merged; a pyramid of prefixes, balanced by costs, is not stored.
  krul::SavePlan codings = krul::SavePlan::separate(krul::F16Codec{}, "by hand");
  codings.pair_coding = krul::LayerPairCompressor(krul::SlerpMerge{}, krul::F16Codec{});
  const krul::Evidence evidence{.geometry = geometry,
                                .tokens = history.size(),
                                .statistics = estimator.statistics(),
                                .block_bytes = krul::measure_block_bytes(cache, geometry, codings, 64),
                                .costs = costs};
  const krul::SavePlan plan = krul::StrategySelector(krul::AttentionSimilarity{}).select(codings, evidence);
  const auto saved = krul::save_as(model, store, cache, history, {.id = "garden", .plan = plan}).value();
  std::cout << "saved with " << plan.settings << "; tokens that the four layers do not store:";
  for (const std::size_t prefix : plan.left_out) std::cout << ' ' << prefix;
  std::cout << '\n';

  // The user returns: stored rows are loaded while the others are recomputed, layer by layer.
  const std::string folder = krul::conversation_folder("garden").value();
  const krul::Manifest manifest = krul::load_manifest(store, folder).value().manifest;
  const auto sizes = krul::restore_sizes(manifest, manifest.rows, tokens.size() - manifest.rows);
  std::vector<float> logits(geometry.vocabulary);
  auto restored = model.make_cache(512);
  const krul::RestoreJob<toy::Backend, krul::MemoryStore> job{
      .model = model,
      .store = store,
      .cache = restored,
      .workers = workers,
      .manifest = manifest,
      .folder = folder,
      .plan = krul::RestorationScheduler<krul::AsStored>{}.plan(sizes, costs),
      .tokens = tokens,
      .logits = logits};
  const krul::RestoreReport report = krul::restore(job).value();
  std::cout << "restored: " << report.loaded_rows << " rows loaded, " << report.recomputed_rows << " recomputed, of "
            << saved.rows * geometry.layers << "\n";
}
