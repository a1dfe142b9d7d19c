// The paper's idea, part by part: watch attention while the model runs, choose which layers of this conversation share
// their K and V, save with that plan, and bring the conversation back. Put your own criterion where OwnPairs stands.

#include <iostream>
#include <krul/conversation/conversation.hpp>
#include <krul/select/attention_similarity.hpp>
#include <krul/select/fixed_pairs.hpp>
#include <krul/select/strategy_selector.hpp>
#include <krul/similarity/tokenwise_similarity_estimator.hpp>
#include <krul/store/memory_store.hpp>
#include <vector>

#include "../05_your_own_backend/toy_backend.hpp"

/// A selection policy from outside: the first layer with the last one.
struct OwnPairs {
  [[nodiscard]] std::vector<krul::LayerPair> pairs(const krul::SelectionQuestion& question) const {
    return {{0, question.layers - 1}};
  }
};
static_assert(krul::SelectionPolicy<OwnPairs>);

template <krul::SelectionPolicy Policy>
void save_and_return(const char* name, Policy policy, toy::Backend& model, const std::vector<krul::Token>& tokens) {
  krul::MemoryStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  const std::size_t history = tokens.size() - 4;
  {
    auto talk = *krul::open_conversation(model, store, "a talk");
    krul::TokenwiseSimilarityEstimator<> estimator(model.geometry());
    talk.advance(std::span(tokens).first(history), logits, estimator).value();
    const krul::SaveRequest request{.layers = model.geometry().layers,
                                    .tokens = history,
                                    .coding = {krul::Separate{}, krul::F16Codec{}},
                                    .pair_coding = {krul::SlerpMerge{}, krul::F16Codec{}}};
    const auto plan = krul::StrategySelector(policy).select(estimator.statistics(), request);
    const auto saved = talk.save(plan, &estimator.statistics()).value();
    std::cout << name << ": " << (plan.settings.empty() ? "no pairs" : plan.settings) << ", " << saved.rows
              << " tokens saved\n";
  }
  auto talk = *krul::open_conversation(model, store, "a talk");
  const auto report = talk.advance(tokens, logits).value();
  const std::size_t plain = history * model.geometry().f16_token_bytes();
  std::cout << "  back: " << report.loaded_rows << " rows loaded, " << (100 * report.bytes + plain / 2) / plain
            << " % of the bytes read\n";
}

int main() {
  toy::Backend model;
  std::vector<krul::Token> tokens;
  for (krul::Token token = 7; tokens.size() < 260; token = (token * 21 + 13) % 64) tokens.push_back(token);
  save_and_return("by itself", krul::NoSharing{}, model, tokens);
  save_and_return("by attention", krul::AttentionSimilarity{}, model, tokens);
  save_and_return("my own pairs", OwnPairs{}, model, tokens);
}
