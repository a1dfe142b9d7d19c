#include <cmath>
#include <cstdio>
#include <memory>

#include "krul/conversation/conversation.hpp"
#include "krul/conversation/strategy.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/store/memory_store.hpp"
#include "machine_costs.hpp"
#include "texts.hpp"
#include "verbs.hpp"

namespace krul::cli {
namespace {

struct EvaluateOptions {
  ModelOptions model;
  std::string conversations;
  std::string strategies = "load-int8,krul";
  std::string link = "disk";
  std::size_t history = 1024;
  std::size_t fresh = 128;
};

/// One conversation, cut where the user comes back.
struct Case {
  std::string id;
  std::vector<Token> history, fresh;
};

std::vector<Case> cut_cases(const EvaluateOptions& options, const LoadedModel& model,
                            const std::vector<ConversationText>& texts) {
  std::vector<Case> cases;
  for (const auto& text : texts) {
    const auto tokens = encode_messages(model, text.messages, false);
    if (tokens.size() < options.history / 2 + options.fresh) continue;
    const std::size_t history = std::min(options.history, tokens.size() - options.fresh);
    const auto at = tokens.begin() + static_cast<std::ptrdiff_t>(history);
    cases.push_back({text.id, {tokens.begin(), at}, {at, at + static_cast<std::ptrdiff_t>(options.fresh)}});
  }
  if (cases.empty())
    throw Failure({ErrorCode::invalid_argument, "no conversation is long enough: they need " +
                                                    std::to_string(options.history / 2 + options.fresh) +
                                                    " tokens; choose a smaller --history"});
  return cases;
}

using Cache = CpuModel::Cache;

/// Logits of the new tokens, [fresh, vocabulary], after the history that a cache holds.
std::vector<float> logits_after(CpuModel& model, Cache& cache, std::span<const Token> fresh) {
  auto batch = model.make_batch();
  std::vector<float> logits(fresh.size() * model.geometry().vocabulary);
  forward(model, cache, batch, fresh, logits);
  return logits;
}

struct Restored {
  std::vector<float> logits;
  std::uint64_t stored = 0;  ///< bytes, all of the conversation counted
};

/// What the model says to the new tokens after the history was saved from `exact`, dropped and restored.
Restored restore_and_run(CpuModel& model, Cache& exact, const Case& item, const Strategy& strategy,
                         const ConversationOptions& base) {
  MemoryStore store;
  ConversationOptions options = base;
  options.codec = unwrap(row_codec_from_name(strategy.codec));
  options.read_only = true;
  unwrap(save_as(model, store, exact, item.history,
                 {.id = item.id, .plan = SavePlan::separate(options.codec), .threads = options.threads}));
  std::vector<Token> all = item.history;
  all.insert(all.end(), item.fresh.begin(), item.fresh.end());
  Restored restored{std::vector<float>(item.fresh.size() * model.geometry().vocabulary), store.used()};
  auto talk =
      unwrap(Conversation<CpuModel, MemoryStore, AnyPolicy>::open(model, store, item.id, options, strategy.policy));
  unwrap(talk.advance(all, restored.logits));
  if (strategy.name == "recompute") restored.stored = item.history.size() * sizeof(Token);
  return restored;
}

std::vector<eval::TokenQuality> compare_logits(std::span<const float> exact, std::span<const float> candidate,
                                               std::span<const float> alone, const Case& item) {
  const std::size_t vocabulary = exact.size() / item.fresh.size();
  std::vector<eval::TokenQuality> tokens;
  for (std::size_t row = 0; row + 1 < item.fresh.size(); ++row) {
    const auto at = [&](std::span<const float> logits) {
      return eval::NextToken(logits.subspan(row * vocabulary, vocabulary));
    };
    tokens.push_back(eval::compare(at(exact), at(candidate), item.fresh[row + 1]));
    tokens.back().nll_without_history = -at(alone).log_probability(item.fresh[row + 1]);
  }
  return tokens;
}

struct Outcome {
  Strategy strategy;
  eval::QualityTotals quality;
  double bytes = 0, tokens = 0;
};

void print_outcomes(const std::vector<Outcome>& outcomes, const EvaluateOptions& options, const LoadedModel& model,
                    const Tool& tool) {
  const auto f16 = static_cast<double>(model.backend.geometry().f16_token_bytes());
  Json rows = Json::array();
  eval::ResultTable table({{"strategy", "", eval::ResultTable::Align::left},
                           {"bytes", "per token"},
                           {"ratio", "to f16"},
                           {"dNLL", "nats"},
                           {"KL", "nats"},
                           {"KL p95"},
                           {"KL worst", "conversation"},
                           {"top-1"},
                           {"benefit", "kept"}});
  for (const auto& outcome : outcomes) {
    const auto quality = outcome.quality.summary();
    const double bytes = outcome.bytes / outcome.tokens;
    const double benefit = quality.history_benefit.value_or(std::nan(""));
    rows.push_back({{"name", outcome.strategy.name},
                    {"bytes_per_token", bytes},
                    {"ratio_to_f16", f16 / bytes},
                    {"delta_nll", quality.delta_nll},
                    {"kl", quality.kl},
                    {"kl_p95", quality.kl_p95},
                    {"kl_worst", quality.kl_worst},
                    {"history_benefit", quality.history_benefit ? Json(benefit) : Json(nullptr)},
                    {"top1", quality.top1},
                    {"conversations", quality.conversations},
                    {"tokens", quality.tokens}});
    table.add({std::string(outcome.strategy.name), eval::cell(bytes, 0), eval::cell(f16 / bytes, 2),
               eval::cell(quality.delta_nll, 4), eval::cell(quality.kl, 5), eval::cell(quality.kl_p95, 5),
               eval::cell(quality.kl_worst, 5), eval::cell(quality.top1, 3), eval::cell(benefit, 4)});
  }
  if (tool.json) {
    tool.print({{"strategies", rows},
                {"history", options.history},
                {"new", options.fresh},
                {"link", options.link},
                {"run", describe_run(model)}});
  } else {
    std::printf("%s\nhistory of up to %zu tokens, the next %zu are the new input; %zu conversations\n",
                table.text().c_str(), options.history, options.fresh, outcomes.front().quality.summary().conversations);
  }
}

void evaluate(const EvaluateOptions& options, const Tool& tool) {
  const auto link = unwrap(parse_link(options.link));
  std::vector<Outcome> outcomes;
  for (const auto& strategy : unwrap(strategies_named(options.strategies))) outcomes.push_back({strategy, {}});
  const auto texts = load_conversations(options.conversations);
  auto model = options.model.load(tool);
  const auto costs = machine_costs(model, tool);
  const auto cases = cut_cases(options, model, texts);

  for (std::size_t i = 0; i < cases.size(); ++i) {
    const Case& item = cases[i];
    tool.progress("conversation " + std::to_string(i + 1) + " of " + std::to_string(cases.size()) + ": " + item.id);
    Cache exact = model.backend.make_cache(item.history.size() + item.fresh.size());
    auto batch = model.backend.make_batch();
    prefill(model.backend, exact, batch, item.history, {});
    const auto reference = logits_after(model.backend, exact, item.fresh);
    exact.truncate(item.history.size());
    Cache empty = model.backend.make_cache(item.fresh.size());
    const auto alone = logits_after(model.backend, empty, item.fresh);
    for (auto& outcome : outcomes) {
      ConversationOptions conversation;
      conversation.threads = model.backend.workers().threads();
      conversation.costs = costs.costs(link, outcome.strategy.codec);
      const auto restored = restore_and_run(model.backend, exact, item, outcome.strategy, conversation);
      outcome.quality.add(compare_logits(reference, restored.logits, alone, item));
      outcome.bytes += static_cast<double>(restored.stored);
      outcome.tokens += static_cast<double>(item.history.size());
    }
  }
  tool.progress("");
  print_outcomes(outcomes, options, model, tool);
}

}  // namespace

void add_evaluate(CLI::App& program, Tool& tool) {
  auto options = std::make_shared<EvaluateOptions>();
  auto* verb = program.add_subcommand("evaluate", "quality and size of strategies on conversations");
  options->model.add_to(*verb);
  verb->add_option("--conversations", options->conversations, "JSON lines; without it, the demo's own");
  verb->add_option("--strategies", options->strategies, "names, separated by commas")->capture_default_str();
  verb->add_option("--history", options->history, "tokens that are saved and restored")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  verb->add_option("--new", options->fresh, "tokens of new input after them")
      ->check(CLI::Range(2, 4096))
      ->capture_default_str();
  verb->add_option("--link", options->link, "link that is planned for: 100MB/s, disk or memory")->capture_default_str();
  verb->callback([options, &tool] { evaluate(*options, tool); });
}

}  // namespace krul::cli
