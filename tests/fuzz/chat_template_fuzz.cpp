// Any text as a chat template: it is learnt, or refused with a reason, and what was learnt renders conversations.
#include "fuzz_target.hpp"
#include "krul/model/chat_format.hpp"

namespace krul::fuzz {
namespace {

void read_chat_template(std::span<const std::byte> input) {
  const auto format = ChatFormat::from_template(as_text(input), "<s>", "</s>");
  if (!accepted(format)) return;
  for (const std::vector<Message>& messages :
       {std::vector<Message>{{"user", "a"}}, std::vector<Message>{{"system", "s"}, {"user", "a"}},
        std::vector<Message>{{"user", "a"}, {"assistant", "b</think>c"}, {"user", " d\n"}}}) {
    const auto whole = format->render(messages, false), prompted = format->render(messages, true);
    if (accepted(whole) && accepted(prompted))
      require(prompted->text().size() >= whole->text().size(), "a prompt shortens a conversation");
  }
  (void)format->render_next_turn("b");
}

std::vector<Bytes> chat_template_seeds() {
  std::vector<Bytes> seeds;
  for (const std::string_view source :
       {"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
        "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] | trim + "
        "' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}"
        "{{ raise_exception('Only user and assistant roles') }}{% endif %}{% endfor %}",
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0].content %}{%- set loop_messages = "
        "messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}{%- for m in loop_messages %}"
        "{%- if loop.last and system is defined %}{{ system ~ '\\n\\n' }}{%- endif %}{{ m.content.split('</think>')[-1]"
        ".lstrip('\\n') }}{%- endfor %}",
        "{% macro turn(m) %}{{ m.role | upper }}{% endmacro %}{% set ns = namespace(found=false) %}"
        "{% for m in messages | list %}{% set ns.found = true %}{{ turn(m) }}{% endfor %}{{ messages | length }}"})
    seeds.push_back(joined({}, source));
  return seeds;
}

}  // namespace

Target chat_template_target() {
  return {"chat_template", read_chat_template, chat_template_seeds};
}

}  // namespace krul::fuzz
