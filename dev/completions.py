# SPDX-License-Identifier: GPL-2.0-or-later
"""Completions for bash, zsh and fish: all commands, options and fixed values of both programs.

They are tables with a little shell around them, so that a tab costs no start of Python. What only a running
system knows (names of targets, identifiers of builds) is not asked for.
"""

from collections.abc import Iterator

from dev import command_tree
from dev.command_tree import Command, Option

NOTE = "# SPDX-License-Identifier: GPL-2.0-or-later\n# Written by `make docs`; edit what it says there.\n"


def files() -> dict[str, str]:
    """Every file below completions/: name to text."""
    made = {}
    for program in (command_tree.gentwoo(), command_tree.collector()):
        made[f"{program.name}.bash"] = bash(program)
        made[f"_{program.name}"] = zsh(program)
        made[f"{program.name}.fish"] = fish(program)
    return made


def candidates(program: Command, command: Command) -> list[str]:
    """What may stand next, apart from values: commands below, and options."""
    options = [name for option in (*command.options, *program.globals) for name in option.names]
    return [*(below.name for below in command.commands), *options, "--help"]


def valued(program: Command) -> Iterator[Option]:
    """Each option that takes a value, of any command; one of several with the same name where these agree."""
    found: dict[str, Option] = {}
    for _, command in program.walk():
        for option in (*command.options, *program.globals):
            if option.metavar:
                found.setdefault(option.names[0], option)
    yield from found.values()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def first_argument(command: Command) -> Option | None:
    """The argument that decides how a word without dashes is completed."""
    return command.arguments[0] if command.arguments else None


def bash(program: Command) -> str:
    """The file for bash-completion, which loads it by the program's name."""
    name = program.name.replace("-", "_")
    values = "".join(
        f"\t\t{'|'.join(option.names)}) {_bash_value(option)}; return ;;\n" for option in valued(program)
    )
    takes = "|".join(word for option in valued(program) for word in option.names)
    levels = "".join(
        f"\t\t{quoted(' '.join(words))}) words={quoted(' '.join(candidates(program, command)))}"
        f"{_bash_arguments(command)} ;;\n"
        for words, command in program.walk()
    )
    known = " ".join(quoted(" ".join(words)) for words, _ in program.walk())
    return (
        f"{NOTE}"
        f"_{name}()\n{{\n"
        f"\tlocal cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}\n"
        f"\tlocal path={program.name} words='' files='' skip='' word i\n"
        f"\tlocal -A known=()\n"
        f"\tfor word in {known}; do known[$word]=1; done\n"
        f"\tCOMPREPLY=()\n"
        f"\tcase $prev in\n{values}\tesac\n"
        f"\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
        f"\t\tword=${{COMP_WORDS[i]}}\n"
        f"\t\tif [[ $skip ]]; then skip=''; continue; fi\n"
        f"\t\tcase $word in {takes}) skip=1 ;; -*) ;;\n"
        f'\t\t*) [[ ${{known["$path $word"]-}} ]] && path+=" $word" ;; esac\n'
        f"\tdone\n"
        f"\tcase $path in\n{levels}\tesac\n"
        f'\tmapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")\n'
        f"\tif [[ $files && $cur != -* ]]; then\n"
        f'\t\tmapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen "-$files" -- "$cur")\n'
        f"\t\tcompopt -o filenames 2>/dev/null\n"
        f"\tfi\n"
        f"}}\n"
        f"complete -F _{name} {program.name}\n"
    )


def _bash_value(option: Option) -> str:
    if option.choices:
        return f'mapfile -t COMPREPLY < <(compgen -W {quoted(" ".join(option.choices))} -- "$cur")'
    if option.kind:
        flag = "d" if option.kind == "directory" else "f"
        return f'mapfile -t COMPREPLY < <(compgen -{flag} -- "$cur"); compopt -o filenames 2>/dev/null'
    return ":"


def _bash_arguments(command: Command) -> str:
    argument = first_argument(command)
    if argument is None or not argument.kind:
        return ""
    return " files=d" if argument.kind == "directory" else " files=f"


def zsh(program: Command) -> str:
    """The file for zsh's compinit: a function for each command."""
    functions = "".join(_zsh_function(program, words, command) for words, command in program.walk())
    return f'#compdef {program.name}\n{NOTE}\n{functions}\n_{program.name} "$@"\n'


def _zsh_function(program: Command, words: tuple[str, ...], command: Command) -> str:
    name = "_" + "__".join(words)
    specs = [_zsh_option(option) for option in (*command.options, *program.globals)]
    specs.append("'(-h --help)'{-h,--help}'[show the help and exit]'")
    if not command.commands:
        specs += map(_zsh_argument, command.arguments)
        body = " \\\n\t\t".join(["_arguments -s", *specs])
        return f"{name}() {{\n\t{body}\n}}\n\n"
    body = " \\\n\t\t".join(["_arguments -C -s", *specs, "'1:command:->command'", "'*::argument:->argument'"])
    described = "".join(f"\t\t\t{_zsh_described(below)}\n" for below in command.commands)
    cases = "".join(f"\t\t\t{below.name}) {name}__{below.name} ;;\n" for below in command.commands)
    return (
        f"{name}() {{\n\tlocal context state state_descr line ret=1\n\ttypeset -A opt_args\n"
        f"\t{body} && ret=0\n"
        f"\tcase $state in\n"
        f"\tcommand)\n\t\tlocal -a commands=(\n{described}\t\t)\n"
        f"\t\t_describe command commands && ret=0 ;;\n"
        f"\targument)\n\t\tcase $words[1] in\n{cases}\t\tesac && ret=0 ;;\n"
        f"\tesac\n\treturn ret\n}}\n\n"
    )


def _zsh_described(command: Command) -> str:
    return quoted(f"{command.name}:{command.help.replace(':', chr(92) + ':')}")


def _zsh_option(option: Option) -> str:
    text = option.help.replace("\\", "").replace("[", "(").replace("]", ")").replace(":", "\\:")
    value = f":{option.metavar}:{_zsh_action(option)}" if option.metavar else ""
    names = option.names
    if len(names) == 1:
        return quoted(f"*{names[0]}[{text}]{value}")
    return f"{quoted('(' + ' '.join(names) + ')')}{{{','.join(names)}}}{quoted(f'[{text}]{value}')}"


def _zsh_argument(argument: Option) -> str:
    place = "*:" if argument.is_repeated else "::" if argument.is_optional else ":"
    return quoted(f"{place}{argument.metavar.replace(':', chr(92) + ':')}:{_zsh_action(argument)}")


def _zsh_action(option: Option) -> str:
    if option.choices:
        return f"({' '.join(option.choices)})"
    return {"file": "_files", "directory": "_files -/"}.get(option.kind, " ")


def fish(program: Command) -> str:
    """The file for fish, which loads it by the program's name."""
    lines = [f"complete -c {program.name} -f"]
    for words, command in program.walk():
        condition = _fish_condition(words, command)
        for below in command.commands:
            lines.append(f"complete -c {program.name}{condition} -a {below.name} -d {quoted(below.help)}")
        for option in command.options:
            lines.append(f"complete -c {program.name}{condition}{_fish_option(option)}")
        argument = first_argument(command)
        if argument is not None and argument.kind:
            lines.append(f"complete -c {program.name}{condition} -F")
    lines += [f"complete -c {program.name}{_fish_option(option)}" for option in program.globals]
    return f"{NOTE}" + "\n".join([*lines, ""])


def _fish_condition(words: tuple[str, ...], command: Command) -> str:
    if len(words) == 1:
        return " -n __fish_use_subcommand"
    seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in words[1:])
    if command.commands:
        seen += f"; and not __fish_seen_subcommand_from {' '.join(below.name for below in command.commands)}"
    return f" -n {quoted(seen)}"


def _fish_option(option: Option) -> str:
    names = "".join(
        f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}" for name in option.names
    )
    if not option.metavar:
        value = ""
    elif option.choices:
        value = f" -x -a {quoted(' '.join(option.choices))}"
    elif option.kind:
        value = " -r -F"
    else:
        value = " -x"
    return f"{names}{value} -d {quoted(option.help)}"
