// A backend, a codec and a strategy of one's own, and a conversation in files: krul::state alone.

#include <cstdio>
#include <filesystem>
#include <krul/compress/direct_reuse.hpp>
#include <krul/compress/layer_pair_compressor.hpp>
#include <krul/conversation/conversation.hpp>
#include <krul/restore/as_stored.hpp>
#include <krul/restore/pyramid.hpp>
#include <krul/store/file_store.hpp>
#include <krul/strategy/composed.hpp>

#include "own_parts.hpp"
#include "toy_backend.hpp"

using Mine =
    krul::Composed<OwnPairs, krul::LayerPairCompressor<krul::DirectReuse, Fp8Codec>, krul::Pyramid, krul::AsStored>;
static_assert(krul::Strategy<Mine>);

int main() try {
  toy::Backend model;
  const std::filesystem::path folder = "own_strategy_store";
  std::filesystem::remove_all(folder);
  auto store = krul::or_throw(krul::FileStore::open(folder));
  std::vector<float> logits(model.geometry().vocabulary);
  std::vector<krul::Token> tokens;
  for (krul::Token token = 7; tokens.size() < 260; token = (token * 21 + 13) % 64) tokens.push_back(token);
  krul::ConversationOptions options;
  options.costs = krul::Costs{.link = {.bytes_per_s = 1e5}, .layer = {.project_row_s = 1e-4, .finish_row_s = 1e-4}};
  for (const std::size_t end : {std::size_t{256}, tokens.size()}) {
    auto talk = krul::or_throw(krul::open_conversation(model, store, "meadow", Mine{"mine"}, options));
    const auto report = krul::or_throw(talk.advance(std::span(tokens).first(end), logits));
    krul::or_throw(talk.save());
    std::printf("%zu matched, %zu rows loaded, %zu recomputed, saved by %s with %s\n", report.matched,
                report.loaded_rows, report.recomputed_rows, talk.manifest().plans.front().strategy.c_str(),
                talk.manifest().plans.front().settings.c_str());
    if (end == tokens.size() && (report.matched != 256 || report.recomputed_rows == 0 || report.loaded_rows == 0))
      return 1;
  }
  std::filesystem::remove_all(folder);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
